/**
 * Entries that need no second look: what walks and maps go by when all on their way are of this kind, without asking the format.
 */
import { Access, Marks, type PageTableFormat, type PlainEntries } from './page-table-format.ts';

/** Of a frame's number, RAM being of 4 GiB at most. */
export const allFrames = 0xfffff;

/** Plain entries in which a walk has nothing to mark: the bits that it would set are set. One shape for all formats: walks read it at each level. */
export function withMarks({ accessedBit, dirtyBit, cleanBit, marksTables }: PageTableFormat, plain: PlainEntries, use: number): PlainEntries {
  const ofTables = use === Marks.SET && marksTables ? accessedBit : 0;
  const [accessed, dirty, clean] = use === Marks.IGNORED ? [0, 0, 0] : [accessedBit, dirtyBit, cleanBit];
  const beyondRam = ~((allFrames << plain.frameShift) | ((1 << plain.frameShift) - 1));
  return {
    tableMask: plain.tableMask | ofTables | beyondRam,
    table: plain.table | ofTables,
    readMask: plain.readMask | accessed,
    readable: plain.readable | accessed,
    writeMask: plain.writeMask | accessed | dirty | clean,
    writable: plain.writable | accessed | dirty,
    permissionShift: plain.permissionShift,
    frameShift: plain.frameShift,
  };
}

/** The table that a plain entry names; 0 for any other entry, and beyond RAM, where `words` has nothing. */
export function plainTableIn(words: Int32Array, plain: PlainEntries, table: number, index: number): number {
  const at = (table << 10) + (index << 1);
  const low = words[at]!;
  return (((low & plain.tableMask) ^ plain.table) | words[at + 1]!) === 0 ? (low >>> plain.frameShift) | 0 : 0;
}

/** Whether a plain leaf lets one access through that is a read or a write. */
export function plainLeafPermits(plain: PlainEntries, access: number, low: number): boolean {
  return access === Access.READ ? (low & plain.readMask) === plain.readable : access === Access.WRITE && (low & plain.writeMask) === plain.writable;
}
