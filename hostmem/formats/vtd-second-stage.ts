/**
 * VT-d second stage (VT-d specification 9.8; SEMANTICS c.1): permission is the AND over the levels, and an entry is present
 * when it grants anything.
 *
 *   R 0 · W 1 · PS 7 (leaf at level 2 or 3) · A 8 · D 9 · SNP 11 · address [51:12] · ignored elsewhere
 */
import { label } from '../labels.ts';
import type { Frame } from '../memory.ts';
import { Access, Entry, type PageTableFormat } from '../page-table-format.ts';

const permissionMask = Access.READ | Access.WRITE;
const leaf = Entry.LEAF;
const largeLeaf = 0x80;
const addressHighMask = 0xfffff;
/** Address bits that must be 0 in a large leaf: [20:12] of 2 MiB, [29:12] of 1 GiB. */
const misaligned2M = 0x001ff000;
const misaligned1G = 0x3ffff000;
const labels = [0, ...['1', '2', '3', '4', '5'].map((level) => label(`VtdSecondStage.level${level}`))];

/** Tables of 3, 4 or 5 levels: 39, 48 or 57 bits of IOVA (AW codes 1, 2, 3). */
export function vtdSecondStage(levels: 3 | 4 | 5): PageTableFormat {
  return {
    name: `vtd-second-stage-${levels}`,
    levels,
    inputBits: 12 + 9 * levels,
    outputBits: 52,
    signExtended: false,
    largestLeaf: 3,
    accessedBit: 0x100,
    marksTables: true,
    dirtyBit: 0x200,
    cleanBit: 0,
    needsMarks: false,
    labels,
    plain: { tableMask: largeLeaf | permissionMask, table: permissionMask, readMask: Access.READ, readable: Access.READ, writeMask: Access.WRITE, writable: Access.WRITE, permissionShift: 0, frameShift: 12 },
    inspect,
    frameOf,
    leafHigh: addressHigh,
    leafLow: (frame, permissions, level) => (frame << 12) | (permissions & permissionMask) | (level > 1 ? largeLeaf : 0),
    tableHigh: addressHigh,
    tableLow: (table) => (table << 12) | permissionMask,
  };
}

export default [vtdSecondStage(3), vtdSecondStage(4), vtdSecondStage(5)];

function inspect(level: number, _high: number, low: number): number {
  const permissions = low & permissionMask;
  if (permissions === 0 || level === 1) return permissions === 0 ? 0 : permissions | leaf;
  if ((low & largeLeaf) === 0) return permissions;
  const reserved = level === 2 ? low & misaligned2M : level === 3 ? low & misaligned1G : 1;
  return permissions | (reserved === 0 ? leaf : Entry.RESERVED);
}

/** An integer, and no double, for all that RAM can hold: the walk stays in integer arithmetic. */
function frameOf(high: number, low: number): Frame {
  const above = high & addressHighMask;
  return (above === 0 ? low >>> 12 : above * 0x100000 + (low >>> 12)) as Frame;
}

function addressHigh(frame: Frame): number {
  return Math.floor(frame / 0x100000) & addressHighMask;
}
