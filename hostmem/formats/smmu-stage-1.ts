/**
 * SMMUv3 stage 1, the long-descriptor table of Arm with a granule of 4 KiB (SEMANTICS c.4): permission is the AND over the levels, what
 * is present can be read, and requests are unprivileged ones.
 *
 *   valid 0 · table or page 1 · AttrIdx [4:2] · AP[1] 6 (unprivileged too) · AP[2] 7 (read-only) · SH [9:8] · AF 10 · nG 11 ·
 *   address [47:12] · DBM 51 · in a table: APTable[0] 61 (privileged alone) · APTable[1] 62 (read-only)
 *
 * Arm counts levels downwards, from 0; here leaves of 4 KiB are at level 1 as everywhere. A block is a leaf of 2 MiB or 1 GiB;
 * elsewhere its encoding is no valid one. Hardware that updates the flags (CD.HA, CD.HD) sets AF, and makes a leaf with DBM
 * writable when it is written, which says that it is dirty; hardware that does not refuses both. Execution, contiguous hints
 * and security states are not modelled. As Linux does for a domain that can track dirty pages, a new leaf has AF, and DBM if writable.
 */
import { label } from '../labels.ts';
import type { Frame } from '../memory.ts';
import { Access, Entry, type PageTableFormat } from '../page-table-format.ts';

const valid = 1;
const tableOrPage = 2;
/** Write-back cacheable memory, the second of the attributes that Linux lays down. */
const cacheable = 1 << 2;
const unprivileged = 1 << 6;
const readOnly = 1 << 7;
const innerShareable = 3 << 8;
const accessed = 1 << 10;
const notGlobal = 1 << 11;
/** Of the high word. */
const dirtyModifier = 1 << 19;
const tablePrivileged = 1 << 29;
const tableReadOnly = 1 << 30;
const addressHighMask = 0xffff;
const largestLeaf = 3;
const misaligned2M = 0x001ff000;
const misaligned1G = 0x3ffff000;
const labels = [0, ...['1', '2', '3', '4'].map((level) => label(`SmmuStage1.level${level}`))];

/** Tables of 3 or 4 levels (T0SZ 25, 16): 39 or 48 bits of IOVA, those of TTB0. */
export function smmuStage1(levels: 3 | 4): PageTableFormat {
  return {
    name: `smmu-stage-1-${levels}`,
    levels,
    inputBits: 12 + 9 * levels,
    outputBits: 48,
    signExtended: false,
    largestLeaf,
    accessedBit: accessed,
    marksTables: false,
    dirtyBit: 0,
    cleanBit: readOnly,
    needsMarks: true,
    labels: labels.slice(0, levels + 1),
    inspect,
    frameOf,
    leafHigh: (frame, permissions) => addressHigh(frame) | ((permissions & Access.WRITE) !== 0 ? dirtyModifier : 0),
    leafLow: (frame, permissions, level) =>
      (frame << 12) | leafFlags | ((permissions & Access.WRITE) !== 0 ? 0 : readOnly) | (level === 1 ? tableOrPage : 0),
    tableHigh: addressHigh,
    tableLow: (table) => (table << 12) | tableOrPage | valid,
  };
}

const leafFlags = valid | cacheable | unprivileged | innerShareable | accessed | notGlobal;

export default [smmuStage1(3), smmuStage1(4)];

function inspect(level: number, high: number, low: number): number {
  if ((low & valid) === 0) return 0;
  const isTableOrPage = (low & tableOrPage) !== 0;
  if (level > 1 && isTableOrPage) {
    const permissions = (high & tableReadOnly) !== 0 ? Access.READ : Access.READ | Access.WRITE;
    return permissions | ((high & tablePrivileged) !== 0 ? Entry.SUPERVISOR : 0);
  }
  if ((level === 1) !== isTableOrPage || level > largestLeaf) return 0;
  const writes = (low & readOnly) === 0 || (high & dirtyModifier) !== 0;
  const permissions = writes ? Access.READ | Access.WRITE : Access.READ;
  const misaligned = level === 2 ? low & misaligned2M : level === 3 ? low & misaligned1G : 0;
  return permissions | ((low & unprivileged) === 0 ? Entry.SUPERVISOR : 0) | (misaligned === 0 ? Entry.LEAF : Entry.RESERVED);
}

/** An integer, and no double, for all that RAM can hold: the walk stays in integer arithmetic. */
function frameOf(high: number, low: number): Frame {
  const above = high & addressHighMask;
  return (above === 0 ? low >>> 12 : above * 0x100000 + (low >>> 12)) as Frame;
}

function addressHigh(frame: Frame): number {
  return Math.floor(frame / 0x100000) & addressHighMask;
}
