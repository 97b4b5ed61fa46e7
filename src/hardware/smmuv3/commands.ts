/**
 * Commands of SMMUv3's command queue (Arm SMMUv3 architecture specification 4; SEMANTICS d.3): 16 bytes, here as four words. Opcode in [7:0]
 * of the first one.
 *
 *   CFGI_STE 03   second: stream id; third: leaf 0
 *   CFGI_ALL 04   third: range 31
 *   CFGI_CD 05    substream id [31:12]; second: stream id; third: leaf 0
 *   CFGI_CD_ALL 06   second: stream id
 *   TLBI_NH_ALL 10, NH_ASID 11, NH_VA 12, NH_VAA 13, S12_VMALL 28, S2_IPA 2a, NSNH_ALL 30
 *                 second: VMID [15:0] · ASID [31:16]; third: leaf 0 · address [31:12]; fourth: address
 *   ATC_INV 40    second: stream id; third: size [5:0] · address [31:12]; fourth: address
 *   SYNC 46       CS [13:12]: none 0, interrupt 1; second: data; third and fourth: the address that an interrupt message is written to
 */
export const Opcode = {
  CFGI_STE: 0x03, CFGI_ALL: 0x04, CFGI_CD: 0x05, CFGI_CD_ALL: 0x06, TLBI_NH_ALL: 0x10, TLBI_NH_ASID: 0x11, TLBI_NH_VA: 0x12, TLBI_NH_VAA: 0x13,
  TLBI_S12_VMALL: 0x28, TLBI_S2_IPA: 0x2a, TLBI_NSNH_ALL: 0x30, ATC_INV: 0x40, SYNC: 0x46,
} as const;
const known: ReadonlySet<number> = new Set(Object.values(Opcode));

export type Command = readonly [number, number, number, number];

const leaf = 1;
const signalShift = 12;
const signalMask = 3;
const interrupt = 1;

export const opcodeOf = (first: number): number => first & 0xff;
/** Of the other commands, those bits are a number's. */
export const isKnown = (first: number): boolean =>
  known.has(opcodeOf(first)) && (opcodeOf(first) !== Opcode.SYNC || ((first >>> signalShift) & signalMask) < signalMask);
/** Of SYNC: whether its completion is a message. */
export const sendsMessage = (first: number): boolean => ((first >>> signalShift) & signalMask) === interrupt;
export const asidOf = (second: number): number => second >>> 16;
export const vmidOf = (second: number): number => second & 0xffff;

export const invalidateStream = (streamId: number): Command => [Opcode.CFGI_STE, streamId, leaf, 0];
export const invalidateDescriptor = (streamId: number): Command => [Opcode.CFGI_CD, streamId, leaf, 0];
export const invalidateAsid = (asid: number): Command => [Opcode.TLBI_NH_ASID, asid << 16, 0, 0];
export const invalidateVmid = (vmid: number): Command => [Opcode.TLBI_S12_VMALL, vmid, 0, 0];
/** What stages 1 on a stage 2 have translated, whichever ASID's. */
export const invalidateStages1 = (vmid: number): Command => [Opcode.TLBI_NH_ALL, vmid, 0, 0];
/** One page of an address space; `leafOnly` says that no table was removed. A guest's VMID is for its host to fill in. */
export const invalidateVa = (asid: number, iovaHigh: number, iovaLow: number, leafOnly: boolean): Command =>
  [Opcode.TLBI_NH_VA, asid << 16, (iovaLow & ~0xfff) | (leafOnly ? leaf : 0), iovaHigh];
export const invalidateIpa = (vmid: number, iovaHigh: number, iovaLow: number, leafOnly: boolean): Command =>
  [Opcode.TLBI_S2_IPA, vmid, (iovaLow & ~0xfff) | (leafOnly ? leaf : 0), iovaHigh];
/** Completion writes `data` to `at`, which is below 4 GiB. */
export const sync = (at: number, data: number): Command => [Opcode.SYNC | (interrupt << signalShift), data, at, 0];
