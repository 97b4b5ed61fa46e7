/**
 * Commands of the RISC-V IOMMU's command queue (RISC-V IOMMU specification, "Command-Queue"; SEMANTICS d.4): 16 bytes, here as four
 * words. Low word: opcode [6:0], func [9:7].
 *
 *   IOTINVAL   VMA 0, GVMA 1: AV 10 · PSCID [31:12]; PSCV 32 · GV 33 · NL 34 · GSCID [59:44]; third and fourth word: S 9 · ADDR[63:12] at [61:10]
 *   IOFENCE    C 0: AV 10 · WSI 11 · PR 12 · PW 13; DATA [63:32]; ADDR[63:2] at [61:0] of the other half
 *   IODIR      INVAL_DDT 0, INVAL_PDT 1: PID [31:12]; DV 33 · DID [63:40]
 *   ATS        INVAL 0, PRGR 1: PID [31:12]; PV 32 · DSV 33 · RID [55:40] · DSEG [63:56]; third and fourth word are the message's
 */
export const commandBytes = 16;

export const Opcode = { IOTINVAL: 1, IOFENCE: 2, IODIR: 3, ATS: 4 } as const;
export const opcodeOf = (first: number): number => first & 0x7f;
export const funcOf = (first: number): number => (first >>> 7) & 7;
const func1 = 1 << 7;

/** IOTINVAL: first word, then second. */
export const Invalidate = { ADDRESS_VALID: 1 << 10, PSCV: 1, GV: 2, NON_LEAF: 4 } as const;
export const pscidOf = (first: number): number => first >>> 12;
/** The address of an IOTINVAL, from its other half. */
export const addressHigh = (third: number, fourth: number): number => (fourth << 2) | (third >>> 30);
export const addressLow = (third: number): number => (third << 2) & ~0xfff;
/** S: the address names a block of pages (`orderOfBlock`). */
export const isRange = 1 << 9;

/** IOFENCE: first word. */
export const Fence = { ADDRESS_VALID: 1 << 10, SIGNAL: 1 << 11, READS: 1 << 12, WRITES: 1 << 13 } as const;
/** Where a fence writes its data, in bytes. */
export const fenceAddress = (third: number, fourth: number): number => fourth * 2 ** 34 + (third >>> 0) * 4;

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

/** ATS.INVAL and ATS.PRGR: first word, with a PASID where there is one; second word, for a function of the unit's own segment. */
const AtsBits = { PV: 1, DSV: 2, requesterShift: 8, segmentShift: 24 } as const;
const invalidateAtc = Opcode.ATS;
const answerPages = Opcode.ATS | func1;
export const isAtsInvalidation = (first: number): boolean => (first & (func1 | 0x7f)) === invalidateAtc;
export const isPageAnswer = (first: number): boolean => (first & (func1 | 0x7f)) === answerPages;
export const atsInvalidation = (pasid: number | null): number => invalidateAtc | ((pasid ?? 0) << 12);
export const pageAnswer = (pasid: number | null): number => answerPages | ((pasid ?? 0) << 12);
export const toRequester = (rid: number, pasid: number | null): number => (rid << AtsBits.requesterShift) | (pasid === null ? 0 : AtsBits.PV);
export const hasPasid = (second: number): boolean => (second & AtsBits.PV) !== 0;
/** A machine has one segment, 0: -1 for a requester of another one, whom nobody here is. */
export const requesterOf = (second: number): number =>
  (second & AtsBits.DSV) !== 0 && second >>> AtsBits.segmentShift !== 0 ? -1 : (second >>> AtsBits.requesterShift) & 0xffff;

/** The message of an ATS.INVAL: G, for every PASID, and S, for more than one page, in the third word beside ADDR[31:12]; the fourth is ADDR[63:32]. */
export const AtsAddress = { GLOBAL: 1, SIZE: 1 << 11 } as const;

/** That of an ATS.PRGR, in the fourth word: group and code. */
const answerCodeShift = 12;
export const answerOf = (group: number, code: number): number => group | (code << answerCodeShift);
export const groupOf = (fourth: number): number => fourth & 511;
export const codeOf = (fourth: number): number => (fourth >>> answerCodeShift) & 15;
