/**
 * Root, context, PASID-directory and PASID-table entries of scalable mode (VT-d specification 9.2, 9.4 to 9.6; SEMANTICS c.6), in the
 * words of RAM.
 *
 *   root entry        lo: P 0 · context table [63:12], for devices 0 to 15; hi: the same for 16 to 31       index: bus
 *   context entry     q0: P 0 · FPD 1 · DTE 2 · PASIDE 3 · PRE 4 · PDTS [11:9] · PASID directory [63:12]       index: devfn & 127
 *                     q1: RID_PASID [19:0]
 *   directory entry   P 0 · FPD 1 · PASID table [63:12]                                                     index: PASID >> 6
 *   PASID entry       q0: P 0 · FPD 1 · AW [4:2] · PGTT [8:6] · SSADE 9 · second-stage root [63:12]            index: PASID & 63
 *                     q1: DID [15:0] · PWSNP 23 · PGSNP 24
 *                     q2: SRE 0 · FSPM [3:2] · WPE 4 · EAFE 7 · first-stage root [63:12], a guest's address under a second stage
 *
 * Tables lie below 4 GiB, so that the high word of every pointer is 0; only the low words of q0 to q2 are used. The size of a
 * directory is 2^(PDTS + 7) entries; this model's are one frame, PDTS 2.
 */
import { label } from '#hostmem/labels';
import { hpaOf, type Frame } from '#hostmem/memory';

export const present = 1;
export const faultsDisabled = 2;

export const contextEntryBytes = 32;
export const pasidEntryBytes = 64;
export const pasidsPerTable = 64;
/** PDTS of a directory that fills one frame: 512 entries, 2^15 PASIDs. */
const frameSizedDirectory = 2;
export const directoryEntries = 512;

/** PGTT: what a PASID entry does with a request. */
export const PagingType = { FIRST_STAGE: 1, SECOND_STAGE: 2, NESTED: 3, PASS_THROUGH: 4 } as const;

/** Labels of the quadwords. */
export const contextLabels = [label('VtdScalableContext.word0'), label('VtdScalableContext.word1')] as const;
export const directoryLabel = label('VtdPasidDirectory.entry');
export const pasidLabels = [label('VtdPasidEntry.word0'), label('VtdPasidEntry.word1'), label('VtdPasidEntry.word2')] as const;

/** DTE and PASIDE in context word 0: the requester may use ATS; requests may carry a PASID. */
export const deviceTlbEnabled = 1 << 2;
export const pasidsEnabled = 1 << 3;
export const contextWord0 = (directory: Frame, flags: number = 0): number => (hpaOf(directory) | (frameSizedDirectory << 9) | flags | present) | 0;
/** How many PASIDs the directory of a context entry has room for. */
export const pasidsOf = (contextWord: number): number => 1 << (((contextWord >>> 9) & 7) + 13);
export const ridPasidMask = 0xfffff;

/** SRE, WPE and EAFE in word 2; requests here are of users, so that none of them is looked at. */
export const supervisorRequests = 1;
export const writeProtect = 1 << 4;
export const extendedAccessed = 1 << 7;

/** Bits of PASID-entry word 0. */
const secondStageUse = 1 << 9;
export const pagingTypeOf = (word0: number): number => (word0 >>> 6) & 7;
/** First stage, alone or on a second one: word 2 counts. */
export const hasFirstStage = (word0: number): boolean => pagingTypeOf(word0) === PagingType.FIRST_STAGE || pagingTypeOf(word0) === PagingType.NESTED;
export const levelsOf = (word0: number): number => ((word0 >>> 2) & 7) + 2;
export const marksUse = (word0: number): boolean => (word0 & secondStageUse) !== 0;
export const domainIdOf = (word1: number): number => word1 & 0xffff;
/** FSPM: levels of the first stage; 6 and 7 are reserved codes. */
export const firstStageLevelsOf = (word2: number): number => ((word2 >>> 2) & 3) + 4;

export const secondStageWord0 = (root: Frame, levels: number): number => (hpaOf(root) | (PagingType.SECOND_STAGE << 6) | ((levels - 2) << 2) | present) | 0;
export const firstStageWord0 = (levels: number): number => (PagingType.FIRST_STAGE << 6) | ((levels - 2) << 2) | present;
/** Of both stages; word 2 is that of the first, whose root is a page of the guest. */
export const nestedWord0 = (root: Frame, levels: number): number => (hpaOf(root) | (PagingType.NESTED << 6) | ((levels - 2) << 2) | present) | 0;
export const passThroughWord0 = (levels: number): number => (PagingType.PASS_THROUGH << 6) | ((levels - 2) << 2) | present;
export const firstStageWord2 = (root: Frame, levels: number): number => (hpaOf(root) | ((levels - 4) << 2)) | 0;

/** Bits that must be 0, in the low word of each. */
export const reservedInRoot = 0xffe;
export const reservedInContext0 = 0x1e0;
export const reservedInContext1 = 0xffe00000 | 0;
export const reservedInDirectory = 0xffc;
export const reservedInPasid0 = 0xc20;
export const reservedInPasid1 = 0xfe7f0000 | 0;
export const reservedInPasid2 = 0xf00;

/** Byte address of the half of a root entry that serves a requester. */
export const rootHalfAt = (rootTable: Frame, sourceId: number): number => hpaOf(rootTable) + (sourceId >>> 8) * 16 + ((sourceId & 0x80) >>> 4);
export const contextEntryAt = (contextTable: Frame, sourceId: number): number => hpaOf(contextTable) + (sourceId & 0x7f) * contextEntryBytes;
export const directoryEntryAt = (directory: Frame, pasid: number): number => hpaOf(directory) + (pasid >>> 6) * 8;
export const pasidEntryAt = (table: Frame, pasid: number): number => hpaOf(table) + (pasid & (pasidsPerTable - 1)) * pasidEntryBytes;
