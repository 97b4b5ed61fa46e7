/**
 * The register file of a RISC-V IOMMU (RISC-V IOMMU specification, "Memory-mapped register interface"), in kernel memory as MMIO
 * registers are to the kernel, and what its capabilities offer.
 */
import { object, u32, u64 } from '#hostmem/struct';

export const RiscvRegisters = object('RiscvRegisters', {
  capabilities: u64,
  /** MODE [3:0] · BUSY 4 · PPN [53:10] of the root of the device directory. */
  ddtp: u64,
  /** cqb, fqb: LOG2SZ-1 [4:0] · PPN [53:10] of a ring of commands (16 bytes each) or fault records (32). */
  commandQueue: u64,
  /** cqh, cqt: index of the next command to fetch, and behind the last one. */
  commandHead: u32,
  commandTail: u32,
  /** cqcsr. */
  commandStatus: u32,
  faultQueue: u64,
  faultHead: u32,
  faultTail: u32,
  /** fqcsr. */
  faultStatus: u32,
  /** Leaf lock under which faults are recorded and fetched. */
  faultLock: u32,
  /** Not 0 while a fence is at the head that waits for the transactions that it found in flight. */
  fencing: u32,
  /** Not 0 once the fence at the head has timed out: when it is over after all, it says nothing of the requests before it. */
  unanswered: u32,
  /** Leaf lock of the threads that help the queue along in a free run. */
  helping: u32,
  /** A property of the unit, no register: how many bits of a context it fetches at once. */
  fetchBits: u32,
});

/** How the unit is made: what a world gets, which is most of what Linux can use. */
export interface RiscvUnitOptions {
  /** How many bits of a context the unit fetches at once; 128 by default, 512 is any context as a whole. */
  readonly fetchBits?: 64 | 128 | 512;
  /** Whether it serves device TLBs (capabilities.ATS), which its functions may have then. */
  readonly ats?: boolean;
  /** Whether the unit takes page requests. */
  readonly pageRequests?: boolean;
  /** Whether the unit has caches at all; on by default. Without, every request reads every entry and walks. */
  readonly caches?: 'on' | 'off';
  /** Each cache, by default as `caches` says: translations, device contexts, process contexts. */
  readonly iotlb?: boolean;
  readonly deviceContexts?: boolean;
  readonly processContexts?: boolean;
}

/** Bits of the capabilities' low word. */
export const Capability = {
  SV39: 1 << 9,
  SV48: 1 << 10,
  SV57: 1 << 11,
  SVRSW60T59B: 1 << 14,
  SVPBMT: 1 << 15,
  SV39X4: 1 << 17,
  SV48X4: 1 << 18,
  SV57X4: 1 << 19,
  /** Contexts have the extended format, with MSI address translation. */
  MSI_FLAT: 1 << 22,
  /** Hardware may set accessed and dirty bits. */
  AMO_HWAD: 1 << 24,
  ATS: 1 << 25,
  T2GPA: 1 << 26,
} as const;

/** What a unit of a world offers: Sv39 and Sv48 in both stages, memory types, hardware that sets accessed and dirty bits. */
export const worldCapabilities =
  Capability.SV39 | Capability.SV48 | Capability.SV39X4 | Capability.SV48X4 | Capability.SVPBMT | Capability.AMO_HWAD;

/** Bits of their high word. NL, S: an IOTINVAL may ask for tables alone, or name a range. */
export const CapabilityHigh = { PD8: 1 << 6, PD17: 1 << 7, PD20: 1 << 8, NL: 1 << 10, S: 1 << 11 } as const;
export const worldCapabilitiesHigh = CapabilityHigh.NL | CapabilityHigh.S;

/** How wide a process id may be in a command. */
export const processBitsOf = (capabilitiesHigh: number): number => ((capabilitiesHigh & CapabilityHigh.PD20) !== 0 ? 20 : (capabilitiesHigh & CapabilityHigh.PD17) !== 0 ? 17 : 8);

/** MODE of ddtp. */
export const DdtpMode = { OFF: 0, BARE: 1, LEVELS1: 2, LEVELS2: 3, LEVELS3: 4 } as const;

/** Bits of cqcsr (cqmf, cmd_to, cmd_ill) and fqcsr (fqmf, fqof): software enables, the unit says what went wrong and stops until that is cleared. */
export const QueueStatus = { ENABLED: 1, MEMORY_FAULT: 1 << 8, TIME_OUT: 1 << 9, OVERFLOW: 1 << 9, ILLEGAL: 1 << 10, ON: 1 << 16 } as const;

/** How many entries a ring has, and the byte address of its first, below 4 GiB. */
export const ringLength = (base: number): number => 2 << (base & 31);
export const ringAt = (base: number): number => (base >>> 10) * 4096;

/** MODE of fsc, iohgatp and of a process context: no tables, or 3 to 5 levels of them. */
export const Mode = { BARE: 0, LEVELS3: 8, LEVELS4: 9, LEVELS5: 10 } as const;
export const levelsOf = (mode: number): number => mode - 5;

/** Whether the unit has tables of the first stage in that mode. */
export function offersFirstStage(capabilities: number, mode: number): boolean {
  if (mode === Mode.BARE) return true;
  return mode >= Mode.LEVELS3 && mode <= Mode.LEVELS5 && (capabilities & (Capability.SV39 << (mode - Mode.LEVELS3))) !== 0;
}

/** Whether it has tables of the second stage in that mode. */
export function offersSecondStage(capabilities: number, mode: number): boolean {
  if (mode === Mode.BARE) return true;
  return mode >= Mode.LEVELS3 && mode <= Mode.LEVELS5 && (capabilities & (Capability.SV39X4 << (mode - Mode.LEVELS3))) !== 0;
}

/** MODE of pdtp: no process directory, or one of as many levels. Whether the unit has that. */
export function offersProcessDirectory(capabilitiesHigh: number, mode: number): boolean {
  return mode === Mode.BARE || (mode <= 3 && (capabilitiesHigh & (CapabilityHigh.PD8 << (mode - 1))) !== 0);
}
