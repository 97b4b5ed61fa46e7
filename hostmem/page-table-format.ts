/**
 * What an entry of one vendor's page tables says: a format is a file of `formats/`, and walks and maps are written once over it.
 */
import { rootEntries } from './iova.ts';
import type { Frame } from './memory.ts';

/** What a request wants, and what an entry permits. */
export const Access = { READ: 1, WRITE: 2 } as const;
/** Both. */
export const accessMask = 3;

/** What `PageTableFormat.inspect` says of an entry beside its `Access` bits; 0 as a whole is "not present". */
export const Entry = {
  LEAF: 4,
  RESERVED: 8,
  SUPERVISOR: 16,
  /** Beside `LEAF`: sixteen entries of level 1 are one leaf, and each names the middle of it. */
  LEAF64K: 32,
  /** For a table that grants nothing and would else look absent. */
  PRESENT: 64,
  /** A unit: a table `n` levels below the next one has `n * SKIP`; the bits of the IOVA that are passed over have to be 0. */
  SKIP: 128,
} as const;

/**
 * Entries as software nearly always writes them, told by their low words; the high words are 0. A low word that agrees with the value in the bits of
 * the mask needs no second look, but for the accessed and dirty bits.
 */
export interface PlainEntries {
  /** A table that takes no permission away. */
  readonly tableMask: number;
  readonly table: number;
  /** A leaf of level 1 that can be read, and one that can be written. */
  readonly readMask: number;
  readonly readable: number;
  readonly writeMask: number;
  readonly writable: number;
  /** Where the `Access` bits of such a leaf are, and the frame in both. */
  readonly permissionShift: number;
  readonly frameShift: number;
}

/** Bits of one vendor's entries. Entries are (high, low) pairs; an entry with a low word of 0 is empty. */
export interface PageTableFormat {
  /** As users name it: `vtd-second-stage-3`. */
  readonly name: string;
  /** The root is at this level; leaves of 4 KiB are at level 1. */
  readonly levels: number;
  /** Width of an IOVA, 33 to 64; of a sign-extended one, without its sign. A root has as many entries as that leaves to it. */
  readonly inputBits: number;
  /** Width of an address in an entry. */
  readonly outputBits: number;
  /** Whether an IOVA is canonical when the bits above `inputBits` are all 0 or all 1; else they are 0. */
  readonly signExtended: boolean;
  /** Leaves are at this level and below. */
  readonly largestLeaf: number;
  /** Bit of an entry's low word that hardware sets in the entries it uses; 0 for none. */
  readonly accessedBit: number;
  /** Whether it does so in tables, or in leaves alone. */
  readonly marksTables: boolean;
  /** Bits of its low word that hardware sets in a leaf that it writes through, and those that it clears there; 0 for none. */
  readonly dirtyBit: number;
  readonly cleanBit: number;
  /** Whether hardware that may not set these bits refuses what would need them, and does not pass over them. */
  readonly needsMarks: boolean;
  /** Label of an entry, by level (index 0 is unused). */
  readonly labels: readonly number[];
  /** What a walk may go by without `inspect`; absent where permissions are not in low words. */
  readonly plain?: PlainEntries;
  /** `Access` bits that the entry grants and `Entry` bits; 0 when it is not present. */
  inspect(level: number, high: number, low: number): number;
  /** The frame that the entry names: of the next table, or the first one of a leaf. May lie outside RAM. */
  frameOf(high: number, low: number): Frame;
  leafHigh(frame: Frame, permissions: number, level: number): number;
  leafLow(frame: Frame, permissions: number, level: number): number;
  tableHigh(table: Frame, level: number): number;
  tableLow(table: Frame, level: number): number;
}

/** What a walk does about accessed and dirty bits: nothing, set them, or refuse where they are not set. */
export const Marks = { IGNORED: 0, SET: 1, DEMANDED: 2 } as const;

/** How many entries a root has: those of up to four frames. */
export function rootEntriesOf({ levels, inputBits, signExtended }: PageTableFormat): number {
  return rootEntries(levels, inputBits + (signExtended ? 1 : 0));
}
