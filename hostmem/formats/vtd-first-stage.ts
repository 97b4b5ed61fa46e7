/**
 * VT-d first stage, which is the table of x86-64 (VT-d specification 9.7; SEMANTICS c.2): permission is the AND over the
 * levels, what is present can be read, and requests are those of a user.
 *
 *   P 0 · RW 1 · US 2 · A 5 · D 6 · PS 7 (leaf at level 2 or 3) · address [51:12] · XD 63; ignored elsewhere
 *
 * IOVAs are canonical: bits above 47 (4 levels) or 56 (5 levels) are all equal to the sign. Execution and memory types are not
 * modelled: XD is ignored, and bit 12 of a large leaf (PAT) counts as reserved. As Linux does, a new entry has A set, and a
 * writable leaf D: hardware finds nothing left to set.
 */
import { label } from '../labels.ts';
import type { Frame } from '../memory.ts';
import { Access, Entry, type PageTableFormat } from '../page-table-format.ts';

const present = 1;
const writable = 2;
const user = 4;
const accessed = 0x20;
const dirty = 0x40;
const largeLeaf = 0x80;
const leaf = Entry.LEAF;
const addressHighMask = 0xfffff;
/** Address bits that must be 0 in a large leaf: [20:12] of 2 MiB, [29:12] of 1 GiB. */
const misaligned2M = 0x001ff000;
const misaligned1G = 0x3ffff000;
const labels = [0, ...['1', '2', '3', '4', '5'].map((level) => label(`VtdFirstStage.level${level}`))];

/** Tables of 4 or 5 levels (FSPM 0, 1): 47 or 56 bits of IOVA and a sign. */
export function vtdFirstStage(levels: 4 | 5): PageTableFormat {
  return {
    name: `vtd-first-stage-${levels}`,
    levels,
    inputBits: 11 + 9 * levels,
    outputBits: 52,
    signExtended: true,
    largestLeaf: 3,
    accessedBit: accessed,
    marksTables: true,
    dirtyBit: dirty,
    cleanBit: 0,
    needsMarks: false,
    labels,
    plain: {
      tableMask: largeLeaf | user | writable | present, table: user | writable | present, readMask: user | present, readable: user | present,
      writeMask: user | writable | present, writable: user | writable | present, permissionShift: 0, frameShift: 12,
    },
    inspect,
    frameOf,
    leafHigh: addressHigh,
    leafLow: (frame, permissions, level) =>
      (frame << 12) | present | user | accessed | ((permissions & Access.WRITE) !== 0 ? writable | dirty : 0) | (level > 1 ? largeLeaf : 0),
    tableHigh: addressHigh,
    tableLow: (table) => (table << 12) | present | writable | user | accessed,
  };
}

export default [vtdFirstStage(4), vtdFirstStage(5)];

function inspect(level: number, _high: number, low: number): number {
  if ((low & present) === 0) return 0;
  const permissions = (low & writable) !== 0 ? Access.READ | Access.WRITE : Access.READ;
  const privilege = (low & user) === 0 ? Entry.SUPERVISOR : 0;
  if (level === 1) return permissions | privilege | leaf;
  if ((low & largeLeaf) === 0) return permissions | privilege;
  const reserved = level === 2 ? low & misaligned2M : level === 3 ? low & misaligned1G : 1;
  return permissions | privilege | (reserved === 0 ? leaf : Entry.RESERVED);
}

/** An integer, and no double, for all that RAM can hold: the walk stays in integer arithmetic. */
function frameOf(high: number, low: number): Frame {
  const above = high & addressHighMask;
  return (above === 0 ? low >>> 12 : above * 0x100000 + (low >>> 12)) as Frame;
}

function addressHigh(frame: Frame): number {
  return Math.floor(frame / 0x100000) & addressHighMask;
}
