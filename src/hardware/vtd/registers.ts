/**
 * The register file of one VT-d unit (VT-d specification 11.4), in kernel memory as MMIO registers are to the kernel.
 *
 * System software writes root table, queue and global command; the unit writes head, fault status and fault records.
 * Only the queue's tail is a choice point: the others are written while a unit is set up, or when its queue has stopped.
 */
import { object, onNewLine, u32, u64, words } from '#hostmem/struct';

/** Most fault records that a unit can have here (the capability's NFR + 1 decides). */
export const mostFaultRecords = 8;
/** Words of a fault record: 128 bits. */
export const faultRecordWords = 4;

export const VtdRegisters = object('VtdRegisters', {
  capability: u64,
  extendedCapability: u64,
  /** GSTS: what the last global command left enabled. */
  globalStatus: u32,
  /** RTADDR: address of the root table, bits [11:10] the `RootTableMode`. */
  rootTable: u64,
  /** IQA: address of the queue, bits [2:0] its size: `2^x` pages, bit 11 descriptors of 256 bits. */
  queueAddress: u64,
  /** FSTS. */
  faultStatus: u32,
  /** IQERCD, ITESID: which requester did not answer a device-TLB invalidation. */
  timedOutSource: u32,
  faultRecords: words(mostFaultRecords * faultRecordWords),
  /** The record that the next fault goes to, and the leaf lock under which faults are recorded and fetched. */
  faultNext: u32,
  faultLock: u32,
  /** Properties of the unit, no registers: how many bits of an entry it fetches at once, and whether it gives fault reasons as the recorded emulator. */
  fetchBits: u32,
  recordedReasons: u32,
  /**
   * IQH, IQT: byte offsets of the next descriptor to fetch, and behind the last one; and the leaf lock of the threads that help the queue along in a free
   * run. Of all registers these are written by every submission: together on a line that holds none of those that are read by everybody.
   */
  queueHead: onNewLine(u32),
  queueTail: u32,
  helping: u32,
});

/** Bits of GSTS. */
export const GlobalStatus = { TRANSLATING: 0x80000000 | 0, ROOT_TABLE_SET: 1 << 30, QUEUE_ENABLED: 1 << 26 } as const;

/** Bits of FSTS: fault records overflowed, a record is pending, the queue stopped at a bad descriptor. */
export const FaultStatus = { OVERFLOW: 1, PENDING: 2, QUEUE_ERROR: 1 << 4, TIME_OUT: 1 << 6 } as const;

/** What the recorded QEMU 7.2 unit reports: 39 bits, 2^16 domain ids, MAMV 18, one fault record (`traces/GROUP_STEPS.md` 52). */
export const recordedCapability = 0x00d2008c22260206n;
export const recordedExtendedCapability = 0xf00f4an;

/** The same emulator in scalable mode: 48 bits, ECAP.SMTS, SRS and SLTS; no first stage, no nesting, no PASIDs (derived: no recording at hand shows its words). */
export const recordedScalableCapability = 0x00d2008c222f0606n;
export const recordedScalableExtendedCapability = 0x480080f00f4an;

/** ECAP.NEST: a first stage in guest memory on a second stage. */
const nesting = 1n << 26n;
export const supportsNesting = (extendedLow: number): boolean => (extendedLow & (1 << 26)) !== 0;

/** What a unit reports unless it is told otherwise: the recorded one, with a first stage of 4 levels and 1 GiB, and with both stages nested. */
export const defaultCapabilities = {
  'vtd-legacy': { capability: recordedCapability, extended: recordedExtendedCapability },
  'vtd-scalable': { capability: recordedScalableCapability, extended: recordedScalableExtendedCapability },
  'vtd-first-stage': { capability: recordedScalableCapability | (1n << 56n), extended: recordedScalableExtendedCapability | (1n << 47n) },
  'vtd-nested': { capability: recordedScalableCapability | (1n << 56n), extended: recordedScalableExtendedCapability | (1n << 47n) | nesting },
} as const;

/** ECAP.DT: translation requests and device-TLB invalidations are served. */
export const deviceTlbs = 1n << 2n;
export const supportsDeviceTlbs = (extendedLow: number): boolean => (extendedLow & 4) !== 0;

/** ECAP.PRS: page requests are taken, and answered through the queue. */
export const pageRequests = 1n << 29n;
export const supportsPageRequests = (extendedLow: number): boolean => (extendedLow & (1 << 29)) !== 0;
/** ECAP.PASID and PSS: requests may carry a PASID of 15 bits, as many as a directory of one frame has room for. */
export const pasids = (1n << 40n) | (14n << 35n);
export const supportsPasids = (extendedHigh: number): boolean => (extendedHigh & (1 << 8)) !== 0;
export const pasidBits = 15;

/** RTADDR bits [11:10]. */
export const RootTableMode = { LEGACY: 0, SCALABLE: 1, ABORT: 3 } as const;
export const rootTableModeOf = (rootTableLow: number): number => (rootTableLow >>> 10) & 3;

/** IQA: descriptors are 256 bits wide. */
export const wideDescriptors = 1 << 11;

/** Width of an address that the unit translates (MGAW + 1). */
export const addressBitsOf = (capabilityLow: number): number => ((capabilityLow >>> 16) & 0x3f) + 1;
/** Whether tables of that many levels can be used (SAGAW). */
export const supportsLevels = (capabilityLow: number, levels: number): boolean => levels >= 3 && levels <= 5 && ((capabilityLow >>> (8 + levels - 2)) & 1) !== 0;
/** How many domain ids there are (ND). */
export const domainIdsOf = (capabilityLow: number): number => 1 << (4 + 2 * (capabilityLow & 7));
/** Largest order of pages that one descriptor invalidates (MAMV). */
export const largestOrderOf = (capabilityHigh: number): number => (capabilityHigh >>> 16) & 0x3f;
/** How many fault records there are (NFR + 1). */
export const faultRecordsOf = (capabilityHigh: number): number => ((capabilityHigh >>> 8) & 0xff) + 1;
/** Sizes of large leaves of the second stage (SLLPS): the level of the largest. */
export const secondStageLargestLeaf = (capabilityHigh: number): number => ((capabilityHigh & 8) !== 0 ? 3 : (capabilityHigh & 4) !== 0 ? 2 : 1);
/** The level of the largest leaf of the first stage (FS1GP). */
export const firstStageLargestLeaf = (capabilityHigh: number): number => ((capabilityHigh & (1 << 24)) !== 0 ? 3 : 2);
/** Whether first-stage tables may have five levels (FS5LP). */
export const supportsFirstStage5 = (capabilityHigh: number): boolean => (capabilityHigh & (1 << 28)) !== 0;

/** Pass-through (PT), in the low word of ECAP. */
export const supportsPassThrough = (extendedLow: number): boolean => (extendedLow & (1 << 6)) !== 0;
/** Scalable mode (SMTS), second stage (SSTS) and first stage (FSTS) in it, in the high word of ECAP. */
export const supportsScalable = (extendedHigh: number): boolean => (extendedHigh & (1 << 11)) !== 0;
export const supportsSecondStage = (extendedHigh: number): boolean => (extendedHigh & (1 << 14)) !== 0;
export const supportsFirstStage = (extendedHigh: number): boolean => (extendedHigh & (1 << 15)) !== 0;
/** Supervisor requests (SRS), in the low word, and the extended-accessed flag (EAFS), in the high one. */
export const supportsSupervisor = (extendedLow: number): boolean => (extendedLow & (1 << 31)) !== 0;
export const supportsExtendedAccessed = (extendedHigh: number): boolean => (extendedHigh & (1 << 2)) !== 0;
