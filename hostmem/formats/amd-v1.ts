/**
 * AMD v1, the host tables of AMD IOMMUs (AMD I/O Virtualization Technology specification 2.2.3; SEMANTICS c.3): permission is the AND
 * over the levels.
 *
 *   PR 0 · A 5 · D 6 · next level [11:9] · address [51:12] · FC 60 (leaf; coherent) · IR 61 · IW 62; ignored elsewhere
 *
 * Next level 0 is a leaf of the level's own size, n names a table of level n, which may skip levels: then the bits of the IOVA that
 * they would have used must be 0. A table grows at its top (`PageTable.raise`), as far as the device-table entry's mode goes along.
 * Leaves whose address encodes their size (7) are not modelled and count as reserved, as does a next level that is not below.
 */
import { label } from '../labels.ts';
import type { Frame } from '../memory.ts';
import { Access, Entry, type PageTableFormat } from '../page-table-format.ts';

const present = 1;
const accessed = 0x20;
const dirty = 0x40;
const nextLevelShift = 9;
const addressHighMask = 0xfffff;
/** IR and IW of the high word, where `Access` has bits 0 and 1. */
const permissionShift = 29;
const permissionMask = Access.READ | Access.WRITE;
const forceCoherent = 1 << 28;
/** Leaves: 4 KiB, 2 MiB, 1 GiB, 512 GiB. */
const largestLeaf = 4;
const leaf = Entry.LEAF;
const labels = [0, ...['1', '2', '3', '4', '5', '6'].map((level) => label(`AmdV1.level${level}`))];

/** Tables of 3 to 6 levels (mode of the device-table entry): 39, 48, 57 or all 64 bits of IOVA. */
export function amdV1(levels: 3 | 4 | 5 | 6): PageTableFormat {
  return {
    name: `amd-v1-${levels}`,
    levels,
    inputBits: Math.min(64, 12 + 9 * levels),
    outputBits: 52,
    signExtended: false,
    largestLeaf: Math.min(levels, largestLeaf),
    accessedBit: accessed,
    marksTables: true,
    dirtyBit: dirty,
    cleanBit: 0,
    needsMarks: false,
    labels: labels.slice(0, levels + 1),
    inspect,
    frameOf,
    leafHigh: (frame, permissions) => addressHigh(frame) | forceCoherent | ((permissions & permissionMask) << permissionShift),
    leafLow: (frame) => (frame << 12) | present,
    tableHigh: (table) => addressHigh(table) | (permissionMask << permissionShift),
    tableLow: (table, level) => (table << 12) | ((level - 1) << nextLevelShift) | present,
  };
}

export default [amdV1(3), amdV1(4), amdV1(5), amdV1(6)];

function inspect(level: number, high: number, low: number): number {
  if ((low & present) === 0) return 0;
  const permissions = (high >>> permissionShift) & permissionMask;
  const next = (low >>> nextLevelShift) & 7;
  if (next === level - 1 && level > 1) return permissions === 0 ? Entry.PRESENT : permissions;
  if (next === 0) return permissions | (level <= largestLeaf && isAligned(level, high, low) ? leaf : Entry.RESERVED);
  return next >= level ? Entry.RESERVED : permissions | ((level - 1 - next) * Entry.SKIP);
}

/** Whether the address of a leaf is a multiple of its size. */
function isAligned(level: number, high: number, low: number): boolean {
  if (level < 4) return (low & ((1 << (3 + 9 * level)) - 1) & ~0xfff) === 0;
  return low >>> 12 === 0 && (high & 0x7f) === 0;
}

/** An integer, and no double, for all that RAM can hold: the walk stays in integer arithmetic. */
function frameOf(high: number, low: number): Frame {
  const above = high & addressHighMask;
  return (above === 0 ? low >>> 12 : above * 0x100000 + (low >>> 12)) as Frame;
}

function addressHigh(frame: Frame): number {
  return Math.floor(frame / 0x100000) & addressHighMask;
}
