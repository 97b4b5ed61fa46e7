/**
 * SMMUv3's stream table: 64 bytes for each stream id (Arm SMMUv3 architecture specification 5.2; SEMANTICS c.7), linear or of two levels with a
 * split of 8; entries as the low words of their first four quadwords, which is all that is used but for the translation control of stage 2.
 *
 *   word 0   V 0 · Config [3:1] · S1Fmt [5:4] · S1ContextPtr [31:6]; a context-descriptor table of one descriptor (S1CDMax is 0, and S1Fmt ignored)
 *   word 1   S1DSS [1:0] · S1CIR [3:2] · S1COR [5:4] · S1CSH [7:6] · MEV 19
 *   word 2   S2VMID [15:0]; upper word: VTCR [18:0] · S2AA64 19 · S2PTW 22 · S2R 26
 *   word 3   S2TTB [31:4]
 *   level-1 descriptor   span [4:0], 0 for none · L2Ptr [31:6]
 *
 * With both stages (Config 7) S1ContextPtr is an address that stage 2 translates. ATS, substreams and stalls are not modelled.
 */
import { label } from '#hostmem/labels';
import { hpaOf, type Frame } from '#hostmem/memory';

export const entryBytes = 64;
export const entryQuadwords = 4;
export const entryLabels: readonly number[] = ['0', '1', '2', '3'].map((word) => label(`StreamTableEntry.word${word}`));
export const splitBits = 8;
/** Span of a level-1 descriptor whose table has an entry for each id below it. */
export const wholeSpan = splitBits + 1;

export const valid = 1;
export const Config = { ABORT: 0, BYPASS: 4, STAGE1: 5, STAGE2: 6, NESTED: 7 } as const;
const configShift = 1;
const configMask = 7 << configShift;
const pointerMask = ~63;
const vmidMask = 0xffff;
/** Events of one cause may be merged: a guest cannot flood the queue. */
const mergeEvents = 1 << 19;

/** No substream id is used: substream 0's descriptor; write-back, inner shareable. */
const stage1Attributes = 2 | (1 << 2) | (1 << 4) | (3 << 6);
/** T0SZ 16, start level 0, write-back, inner shareable, a granule of 4 KiB, 48 bits of output; AArch64 tables; S2PTW; faults recorded. */
export const stage2Control = 16 | (2 << 6) | (1 << 8) | (1 << 10) | (3 << 12) | (5 << 16) | (1 << 19) | (1 << 22) | (1 << 26);
const t0szMask = 0x3f;
const startLevelShift = 6;
const aarch64 = 1 << 19;

export type StreamEntry = readonly [number, number, number, number];

export const abortEntry: StreamEntry = [valid | (Config.ABORT << configShift), 0, 0, 0];
export const bypassEntry: StreamEntry = [valid | (Config.BYPASS << configShift), 0, 0, 0];
export const stage1Entry = (descriptors: Frame): StreamEntry => [hpaOf(descriptors) | valid | (Config.STAGE1 << configShift), stage1Attributes, 0, 0];
export const stage2Entry = (vmid: number, root: Frame): StreamEntry => [valid | (Config.STAGE2 << configShift), 0, vmid, hpaOf(root)];

/** A guest's stage 1, as the low words of its own entry say it, on a stage 2 (the kernel's `arm_smmu_make_nested_cd_table_ste`). */
export const nestedEntry = (guestWord0: number, guestWord1: number, vmid: number, root: Frame): StreamEntry =>
  [(guestWord0 & ~configMask) | valid | (Config.NESTED << configShift), guestWord1 | mergeEvents, vmid, hpaOf(root)];

export const configOf = (word0: number): number => (word0 >>> configShift) & 7;
export const hasStage2 = (word0: number): boolean => (configOf(word0) & Config.STAGE2) === Config.STAGE2;
/** Byte address of the context descriptor. */
export const descriptorAt = (word0: number): number => (word0 & pointerMask) >>> 0;
export const vmidOf = (word2: number): number => word2 & vmidMask;
export const rootOf = (word3: number): Frame => (word3 >>> 12) as Frame;
/** The upper word of a quadword that software writes: of the third one, where it has a VMID, the translation control. */
export const upperWord = (index: number, low: number): number => (index === 2 && low !== 0 ? stage2Control : 0);

/** Levels of a stage 2 by its translation control, 0 for what is not modelled. */
export function levelsOf(upper: number): 0 | 3 | 4 {
  if ((upper & aarch64) === 0) return 0;
  const size = upper & t0szMask;
  const start = (upper >>> startLevelShift) & 3;
  if (size === 16 && start === 2) return 4;
  return size === 25 && start === 1 ? 3 : 0;
}

/** The bits that hardware looks at, given an entry (the kernel's `arm_smmu_get_ste_used`). */
export function usedBits([word0]: StreamEntry): StreamEntry {
  if ((word0 & valid) === 0) return [valid, 0, 0, 0];
  const config = configOf(word0);
  const head = valid | (7 << configShift);
  if (config === Config.NESTED) return [-1, -1, -1, -1];
  if (config === Config.STAGE1) return [-1, -1, 0, 0];
  return config === Config.STAGE2 ? [head, 0, -1, -1] : [head, 0, 0, 0];
}

/** As reports and the cache of entries have it: three words, of those that are in use; with both stages the attributes of the first are above the VMID. */
export function inUse(entry: StreamEntry): readonly [number, number, number] {
  const used = usedBits(entry);
  const [word0, word1, word2, word3] = entry.map((word, index) => word & used[index]!) as unknown as StreamEntry;
  return [word0, configOf(word0) === Config.NESTED ? word2 | (word1 << 16) : word1 | word2, word3];
}
