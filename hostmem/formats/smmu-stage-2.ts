/**
 * SMMUv3 stage 2, the long-descriptor table of Arm with a granule of 4 KiB (SEMANTICS c.4): a leaf alone has permissions.
 *
 *   valid 0 · table or page 1 · MemAttr [5:2] · S2AP [7:6] (read, write) · SH [9:8] · AF 10 · address [47:12] · DBM 51
 *
 * Levels and blocks as in stage 1. Hardware that updates the flags (STE.S2HA, STE.S2HD) sets AF, and the write bit of S2AP of a leaf
 * with DBM when it is written, which says that it is dirty; hardware that does not refuses both. Concatenated roots, execution and
 * contiguous hints are not modelled. As in stage 1, a new leaf has AF, and DBM if writable.
 */
import { label } from '../labels.ts';
import type { Frame } from '../memory.ts';
import { Access, Entry, type PageTableFormat } from '../page-table-format.ts';

const valid = 1;
const tableOrPage = 2;
/** Write-back cacheable memory. */
const cacheable = 0xf << 2;
const permissionShift = 6;
const permissionMask = Access.READ | Access.WRITE;
const writable = Access.WRITE << permissionShift;
const innerShareable = 3 << 8;
const accessed = 1 << 10;
/** Of the high word. */
const dirtyModifier = 1 << 19;
const addressHighMask = 0xffff;
const largestLeaf = 3;
const misaligned2M = 0x001ff000;
const misaligned1G = 0x3ffff000;
const labels = [0, ...['1', '2', '3', '4'].map((level) => label(`SmmuStage2.level${level}`))];

/** Tables of 3 or 4 levels (S2T0SZ 25, 16): 39 or 48 bits of IPA. */
export function smmuStage2(levels: 3 | 4): PageTableFormat {
  return {
    name: `smmu-stage-2-${levels}`,
    levels,
    inputBits: 12 + 9 * levels,
    outputBits: 48,
    signExtended: false,
    largestLeaf,
    accessedBit: accessed,
    marksTables: false,
    dirtyBit: writable,
    cleanBit: 0,
    needsMarks: true,
    labels: labels.slice(0, levels + 1),
    inspect,
    frameOf,
    leafHigh: (frame, permissions) => addressHigh(frame) | ((permissions & Access.WRITE) !== 0 ? dirtyModifier : 0),
    leafLow: (frame, permissions, level) =>
      (frame << 12) | leafFlags | ((permissions & permissionMask) << permissionShift) | (level === 1 ? tableOrPage : 0),
    tableHigh: addressHigh,
    tableLow: (table) => (table << 12) | tableOrPage | valid,
  };
}

const leafFlags = valid | cacheable | innerShareable | accessed;

export default [smmuStage2(3), smmuStage2(4)];

function inspect(level: number, high: number, low: number): number {
  if ((low & valid) === 0) return 0;
  const isTableOrPage = (low & tableOrPage) !== 0;
  if (level > 1 && isTableOrPage) return permissionMask;
  if ((level === 1) !== isTableOrPage || level > largestLeaf) return 0;
  const permissions = ((low >>> permissionShift) & permissionMask) | ((high & dirtyModifier) !== 0 ? Access.WRITE : 0);
  const misaligned = level === 2 ? low & misaligned2M : level === 3 ? low & misaligned1G : 0;
  return permissions | (misaligned === 0 ? Entry.LEAF : Entry.RESERVED);
}

/** An integer, and no double, for all that RAM can hold: the walk stays in integer arithmetic. */
function frameOf(high: number, low: number): Frame {
  const above = high & addressHighMask;
  return (above === 0 ? low >>> 12 : above * 0x100000 + (low >>> 12)) as Frame;
}

function addressHigh(frame: Frame): number {
  return Math.floor(frame / 0x100000) & addressHighMask;
}
