/**
 * AMD-Vi host tables (SEMANTICS c.3) as the mock unit has them: every page is 2 KiB instead of 4.
 *
 *   PR 0 · A 5 · D 6 · next level [11:9] (0 is a leaf) · address [51:12] · IR 61 · IW 62; permission is the AND over the levels
 *
 * The walker of `page-table.ts` counts pages of 4 KiB. It sees IOVAs doubled, and the address of a leaf counts host memory in halves
 * of a frame; tables are whole frames. 56 bits of IOVA are then 57 for the walker, which is five levels.
 */
import { label } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import { Access, Entry, type PageTableFormat } from '#hostmem/page-table-format';

const addressHigh = (frame: number): number => Math.floor(frame / 0x100000) & 0xfffff;

/** Bytes of the mock unit's page, as a power of two. */
export const minorPageBits = 11;
export const DIRTY = 0x40;
/** Given with the permissions of both halves of a leaf of 4 KiB, whose size the real entries encode in the address; here bit 7 says it. */
export const HALF = 4;
export const HALF_BIT = 0x80;

/** An IOVA of the unit as the walker sees it, word by word; and whether it has more bits than the unit. */
export const doubledHigh = (iovaHigh: number, iovaLow: number): number => (iovaHigh << 1) | (iovaLow >>> 31);
export const doubledLow = (iovaLow: number): number => iovaLow << 1;
export const isBeyond = (iovaHigh: number): boolean => iovaHigh >>> 24 !== 0;

export const mockFormat: PageTableFormat = {
  name: 'mock-amd-v1',
  levels: 5,
  inputBits: 57,
  outputBits: 52,
  signExtended: false,
  largestLeaf: 1,
  accessedBit: 0x20,
  marksTables: true,
  dirtyBit: DIRTY,
  cleanBit: 0,
  needsMarks: false,
  labels: [0, ...['1', '2', '3', '4', '5'].map((level) => label(`MockAmdV1.level${level}`))],
  inspect(_level, high, low) {
    if ((low & 1) === 0) return 0;
    const permissions = (high >>> 29) & (Access.READ | Access.WRITE);
    return ((low >>> 9) & 7) === 0 ? permissions | Entry.LEAF : permissions;
  },
  frameOf: (high, low) => ((high & 0xfffff) * 0x100000 + (low >>> 12)) as Frame,
  leafHigh: (frame, permissions) => addressHigh(frame) | ((permissions & 3) << 29),
  leafLow: (frame, permissions) => (frame << 12) | ((permissions & HALF) === 0 ? 1 : HALF_BIT | 1),
  tableHigh: (table) => addressHigh(table) | (3 << 29),
  tableLow: (table, level) => (table << 12) | ((level - 1) << 9) | 1,
};
