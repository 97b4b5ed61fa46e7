/**
 * Device directory and device context (RISC-V IOMMU specification, "Device-directory-table", "Device-context"; SEMANTICS c.8), as words
 * of 32 bits.
 *
 *   directory entry   V 0 · reserved [9:1] · PPN [53:10] · reserved [63:54]
 *   device context    tc · iohgatp · ta · fsc, 32 bytes; the extended format adds msiptp · msi_addr_mask · msi_addr_pattern · reserved
 *     tc              V 0 · EN_ATS 1 · EN_PRI 2 · T2GPA 3 · DTF 4 · PDTV 5 · PRPR 6 · GADE 7 · SADE 8 · DPE 9 · SBE 10 · SXL 11 · custom [31:24]
 *     iohgatp, fsc    PPN [43:0] · GSCID (iohgatp) [59:44] · MODE [63:60]
 *     ta              PSCID [31:12]
 *
 * The extended format moves the split of a device id: a page has half as many contexts. This unit is little endian, its XLEN is
 * 64, and it has no QoS ids, so that SBE, SXL and the fields of QoS must be 0.
 */
import { label } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import * as registers from './registers.ts';
import { Capability, Mode } from './registers.ts';

export const Tc = {
  VALID: 1, EN_ATS: 1 << 1, EN_PRI: 1 << 2, T2GPA: 1 << 3, DTF: 1 << 4, PDTV: 1 << 5, PRPR: 1 << 6, GADE: 1 << 7, SADE: 1 << 8, DPE: 1 << 9,
  SBE: 1 << 10, SXL: 1 << 11,
} as const;

/** Where a field begins among the words of a context. */
export const Field = { TC: 0, IOHGATP: 2, TA: 4, FSC: 6, MSIPTP: 8, MSI_MASK: 10, MSI_PATTERN: 12, RESERVED: 14 } as const;
export const contextWords = 16;

export const directoryLabel = label('RiscvDdt.entry');
export const contextLabels: readonly number[] = ['tc', 'iohgatp', 'ta', 'fsc', 'msiptp', 'msi_addr_mask', 'msi_addr_pattern', 'reserved'].map((name) =>
  label(`RiscvDeviceContext.${name}`),
);

const directoryValid = 1;
const reservedInDirectory = 0x3fe;
const reservedInDirectoryHigh = 0xffc00000 | 0;
const reservedInTc = 0x00fff000;
const reservedInTa = 0xfff;
/** [59:44] of a field that is a PPN and a mode. */
const reservedBesidePpn = 0x0ffff000;
const reservedInMsiMask = 0xfff00000 | 0;
const rootAlignment = 4;

/** Whether an entry of a device or process directory names the next page; `high` counts only then. */
export const isValidEntry = (low: number): boolean => (low & directoryValid) !== 0;
export const isReservedEntry = (high: number, low: number): boolean => (low & reservedInDirectory) !== 0 || (high & reservedInDirectoryHigh) !== 0;

/** The frame that a directory entry or ddtp names: PPN [53:10]. */
export const entryFrame = (high: number, low: number): Frame => ((high & 0x3fffff) * 0x400000 + (low >>> 10)) as Frame;
/** The frame that iohgatp, fsc or pdtp names: PPN [43:0]. */
export const fieldFrame = (high: number, low: number): Frame => ((high & 0xfff) * 2 ** 32 + (low >>> 0)) as Frame;
export const modeOf = (high: number): number => high >>> 28;
/** PSCID of ta, of a device or a process. */
export const pscidOf = (ta: number): number => ta >>> 12;

/** Bits of a device id that index a page of contexts. */
export const leafBits = (extended: boolean): number => (extended ? 6 : 7);
export const contextBytes = (extended: boolean): number => (extended ? 64 : 32);

/** Whether a context, valid by its V bit, says what the unit cannot do. */
export function isMisconfigured(context: Int32Array, capabilities: number, capabilitiesHigh: number): boolean {
  return (
    hasReservedBits(context, (capabilities & Capability.MSI_FLAT) !== 0) ||
    hasBadControl(context[Field.TC]!, context[Field.IOHGATP + 1]!, capabilities) ||
    hasBadStages(context, capabilities, capabilitiesHigh)
  );
}

function hasReservedBits(context: Int32Array, extended: boolean): boolean {
  const base = (context[Field.TC]! & reservedInTc) | context[Field.TC + 1]! | (context[Field.TA]! & reservedInTa) | context[Field.TA + 1]!;
  if (base !== 0 || (context[Field.FSC + 1]! & reservedBesidePpn) !== 0) return true;
  if (!extended) return false;
  const masks = (context[Field.MSI_MASK + 1]! | context[Field.MSI_PATTERN + 1]!) & reservedInMsiMask;
  const msiptpHigh = context[Field.MSIPTP + 1]!;
  return masks !== 0 || (msiptpHigh & reservedBesidePpn) !== 0 || modeOf(msiptpHigh) > 1 || (context[Field.RESERVED]! | context[Field.RESERVED + 1]!) !== 0;
}

/** Whether the bits of tc ask for what the unit has not, or contradict each other. */
function hasBadControl(tc: number, iohgatpHigh: number, capabilities: number): boolean {
  const asks = (bits: number): boolean => (tc & bits) !== 0;
  if (asks(Tc.EN_ATS | Tc.EN_PRI | Tc.PRPR) && (capabilities & Capability.ATS) === 0) return true;
  if (asks(Tc.T2GPA | Tc.EN_PRI) && !asks(Tc.EN_ATS)) return true;
  if (asks(Tc.PRPR) && !asks(Tc.EN_PRI)) return true;
  if (asks(Tc.T2GPA) && ((capabilities & Capability.T2GPA) === 0 || modeOf(iohgatpHigh) === Mode.BARE)) return true;
  if (asks(Tc.DPE) && !asks(Tc.PDTV)) return true;
  if (asks(Tc.GADE | Tc.SADE) && (capabilities & Capability.AMO_HWAD) === 0) return true;
  return asks(Tc.SBE | Tc.SXL);
}

function hasBadStages(context: Int32Array, capabilities: number, capabilitiesHigh: number): boolean {
  const fscMode = modeOf(context[Field.FSC + 1]!);
  const hasDirectory = (context[Field.TC]! & Tc.PDTV) !== 0;
  if (!(hasDirectory ? registers.offersProcessDirectory(capabilitiesHigh, fscMode) : registers.offersFirstStage(capabilities, fscMode))) return true;
  const mode = modeOf(context[Field.IOHGATP + 1]!);
  if (!registers.offersSecondStage(capabilities, mode)) return true;
  return mode !== Mode.BARE && context[Field.IOHGATP]! % rootAlignment !== 0;
}
