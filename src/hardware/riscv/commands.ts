/**
 * Commands of the RISC-V IOMMU's command queue (RISC-V IOMMU specification, "Command-Queue"; SEMANTICS d.4): 16 bytes, here as four
 * words. Low word: opcode [6:0], func [9:7].
 *
 *   IOTINVAL   VMA 0, GVMA 1: AV 10 · PSCID [31:12]; PSCV 32 · GV 33 · GSCID [59:44]; third and fourth word: S 9 · ADDR[63:12] at [61:10]
 *   IOFENCE    C 0: AV 10 · WSI 11 · PR 12 · PW 13; DATA [63:32]; ADDR[63:2] at [61:0] of the other half
 *   IODIR      INVAL_DDT 0, INVAL_PDT 1: PID [31:12]; DV 33 · DID [63:40]
 */
export const commandBytes = 16;

export const Opcode = { IOTINVAL: 1, IOFENCE: 2, IODIR: 3 } as const;
export const opcodeOf = (first: number): number => first & 0x7f;
export const funcOf = (first: number): number => (first >>> 7) & 7;
const func1 = 1 << 7;

/** IOTINVAL: first word, then second. */
export const Invalidate = { ADDRESS_VALID: 1 << 10, PSCV: 1, GV: 2 } as const;
export const pscidOf = (first: number): number => first >>> 12;
/** The address of an IOTINVAL, from its other half. */
export const addressHigh = (third: number, fourth: number): number => (fourth << 2) | (third >>> 30);
export const addressLow = (third: number): number => (third << 2) & ~0xfff;

/** IOFENCE: first word. */
export const Fence = { ADDRESS_VALID: 1 << 10, SIGNAL: 1 << 11, READS: 1 << 12, WRITES: 1 << 13 } as const;
/** Where a fence writes its data: bytes, below 4 GiB. */
export const fenceAddress = (third: number): number => (third << 2) >>> 0;

export const invalidateVma = Opcode.IOTINVAL;
export const invalidateDdt = Opcode.IODIR;
export const fence = Opcode.IOFENCE;
/** IODIR: second word. */
export const oneDevice = (deviceId: number): number => 2 | (deviceId << 8);
export const namesDevice = (second: number): boolean => (second & 2) !== 0;
export const deviceIdOf = (second: number): number => second >>> 8;
/** IODIR.INVAL_PDT: first word. */
export const invalidatePdt = (processId: number): number => Opcode.IODIR | func1 | (processId << 12);
export const processIdOf = (first: number): number => first >>> 12;

const isKnown = [0, 2, 1, 2];
const reservedInFence = Fence.SIGNAL;

/** Whether the unit carries a command out: one that it knows, whose fields fit each other. It has no wired interrupt for fences, and no ATS. */
export function isLegal(first: number, second: number): boolean {
  const opcode = opcodeOf(first);
  if (opcode >= isKnown.length || funcOf(first) >= isKnown[opcode]!) return false;
  if (opcode === Opcode.IOFENCE) return (first & reservedInFence) === 0;
  // Guest-physical translations have no process; a process directory is one of a device.
  if (opcode === Opcode.IOTINVAL) return (first & func1) === 0 || (second & Invalidate.PSCV) === 0;
  return (first & func1) === 0 || (second & 2) !== 0;
}
