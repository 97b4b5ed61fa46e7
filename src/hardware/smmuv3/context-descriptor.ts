/**
 * SMMUv3's context descriptor: 64 bytes for a stage 1 (Arm SMMUv3 architecture specification 5.4; SEMANTICS c.7), as three words.
 *
 *   word 0   T0SZ [5:0] · TG0 [7:6] · IR0 [9:8] · OR0 [11:10] · SH0 [13:12] · EPD0 14 · EPD1 30 · V 31
 *   word 1   IPS [2:0] · AA64 9 · R 13 · A 14 · ASET 15 · ASID [31:16]; the upper word of the first quadword
 *   word 2   TTB0 [31:4]
 *
 * TTB1 is switched off (EPD1), as Linux does; accessed and dirty flags are software's (HA and HD are 0).
 */
import { label } from '#hostmem/labels';
import { hpaOf, type Frame } from '#hostmem/memory';

export const descriptorLabels: readonly number[] = ['0', '1'].map((word) => label(`ContextDescriptor.word${word}`));

export const valid = 1 << 31;
const t0szMask = 0x3f;
const granuleMask = 3 << 6;
const tableOff = 1 << 14;
const aarch64 = 1 << 9;
/** T0SZ 16, a granule of 4 KiB, write-back, inner shareable; TTB1 off; valid. */
const control = 16 | (1 << 8) | (1 << 10) | (3 << 12) | (1 << 30) | valid;
/** 48 bits of output, AArch64 tables, faults are recorded and abort, ASIDs are this unit's own. */
const upperControl = 5 | aarch64 | (1 << 13) | (1 << 14) | (1 << 15);

export type Descriptor = readonly [number, number, number];

export const noDescriptor: Descriptor = [0, 0, 0];
export const descriptorOf = (asid: number, root: Frame): Descriptor => [control, upperControl | (asid << 16), hpaOf(root)];
export const asidOf = (upper: number): number => upper >>> 16;
export const rootOf = (word2: number): Frame => (word2 >>> 12) as Frame;

/** Levels of its tables; 0 for what is not modelled. */
export function levelsOf([word0, upper]: Descriptor): 0 | 3 | 4 {
  if ((upper & aarch64) === 0 || (word0 & (granuleMask | tableOff)) !== 0) return 0;
  const size = word0 & t0szMask;
  return size === 16 ? 4 : size === 25 ? 3 : 0;
}

/** The bits that hardware looks at, given a descriptor (the kernel's `arm_smmu_get_cd_used`). */
export const usedBits = ([word0]: Descriptor): Descriptor => ((word0 & valid) === 0 ? [valid, 0, 0] : [-1, -1, -1]);
