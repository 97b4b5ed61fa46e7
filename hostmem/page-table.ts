/**
 * Page tables in RAM: walk, map and unmap, written once over a format (`formats/*`, one file each).
 *
 * Tables are frames of 512 entries of 64 bits, a root up to four of them; nothing is kept outside RAM, so that hardware (`walk`)
 * and kernel (`mapPage`, `unmap`) share the entries as two machines would. A walk by hardware reads top down, one point an entry.
 * Who maps and unmaps takes one point for each leaf, and one for each table it installs: it may read the tables in
 * between silently, because an installed table stays until `destroy`. IOVAs are (high, low) pairs of 32-bit words.
 * A table view that marks use sets accessed and dirty bits as it walks, one more point for each entry it changes.
 * Leaves of 64 KiB (RISC-V Svnapot) and tables that skip levels (AMD v1) are walked, not made.
 * This file does not know of caches: whoever changes a leaf invalidates. Writes are visible to the walker at once
 * (a coherent walker).
 */
import { clearRun64, compareExchange, install64, installRun64, peek, read64 } from './atomics.ts';
import { Owner, type Frames } from './frames.ts';
import { beyondWidth, highOf, indexAt, lowOf, pageNumber, pageWithin, rootEntries } from './iova.ts';
import { hpaOf, pageBytes, type Frame, type Memory } from './memory.ts';

/** What a request wants, and what an entry permits. */
export const Access = { READ: 1, WRITE: 2 } as const;
const accessMask = 3;

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

/** Why a walk ended without a frame. Each vendor has numbers of its own for these. */
export const WalkFault = {
  NONE: 0,
  /** The IOVA is wider than the table. */
  BEYOND_WIDTH: 1,
  /** An entry on the way is not present. */
  NOT_PRESENT: 2,
  READ_DENIED: 3,
  WRITE_DENIED: 4,
  /** An entry on the way has reserved bits set. */
  RESERVED: 5,
  /** A table on the way is outside RAM. */
  TABLE_ACCESS: 6,
  /** An entry on the way is for the supervisor alone. */
  SUPERVISOR: 7,
  /** The leaf's accessed bit is clear, and hardware may not set it. */
  NOT_ACCESSED: 8,
} as const;
export type WalkFault = (typeof WalkFault)[keyof typeof WalkFault];

/** Why nothing more was mapped. */
type MapFailure = 'ENOMEM' | 'EADDRINUSE' | 'ERANGE' | 'EINVAL';

/** Where a walk ended: owned by the caller and reused from walk to walk. */
export class WalkResult {
  fault: WalkFault = WalkFault.NONE;
  /** The frame of the page at the IOVA, also inside a large leaf; valid when the translation exists (also if denied). */
  frame: Frame = 0 as Frame;
  /** `Access` bits granted by all levels together. */
  permissions = 0;
  /** `Access` bits granted by the levels above the last entry. */
  permissionsAbove = 0;
  /** Level of the last entry read: of the leaf, or of what faulted. `levels + 1` when none was read. */
  level = 0;
  /** Byte address of the last entry read. */
  entryAt = 0;
  /** The last entry read. */
  entryHigh = 0;
  entryLow = 0;

  /** It ended at a plain leaf of level 1, the entry at that word of RAM. */
  endAtPage(plain: PlainEntries, above: number, index: number, entryLow: number): WalkFault {
    this.frame = ((entryLow >>> plain.frameShift) | 0) as Frame;
    this.permissions = (entryLow >>> plain.permissionShift) & above;
    this.permissionsAbove = above;
    this.level = 1;
    this.entryAt = index << 2;
    this.entryHigh = 0;
    this.entryLow = entryLow;
    return (this.fault = none);
  }
}

/** Copies for the walk: V8 folds a module's own constants, and loads and checks exported ones at each use (2 ns a walk and level). */
const leaf = Entry.LEAF;
const reserved = Entry.RESERVED;
const refused = Entry.RESERVED | Entry.SUPERVISOR;
const leaf64K = Entry.LEAF64K;
const usable = accessMask | leaf;
const skipShift = 7;
const entryIndex = indexAt;
/** Set in what is no table of the level below. */
const noTable = Entry.LEAF | -Entry.SKIP;
const none = WalkFault.NONE;
const readAccess = Access.READ;
const writeAccess = Access.WRITE;
/** Bits of an index into a table that is not the root. */
const lastEntry = 511;
/** Of a frame's number, RAM being of 4 GiB at most. */
const allFrames = 0xfffff;
const notPresent = WalkFault.NOT_PRESENT;

/** The page number behind the last one of 64 bits. */
const allPages = 2 ** 52;

/** What a walk does about accessed and dirty bits: nothing, set them, or refuse where they are not set. */
const ignored = 0;
const marked = 1;
const demanded = 2;

/** Plain entries in which a walk has nothing to mark: the bits that it would set are set. One shape for all formats: walks read it at each level. */
function withMarks({ accessedBit, dirtyBit, cleanBit, marksTables }: PageTableFormat, plain: PlainEntries, use: number): PlainEntries {
  const ofTables = use === marked && marksTables ? accessedBit : 0;
  const [accessed, dirty, clean] = use === ignored ? [0, 0, 0] : [accessedBit, dirtyBit, cleanBit];
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
function tableIn(words: Int32Array, plain: PlainEntries, table: number, index: number): number {
  const at = (table << 10) + (index << 1);
  const low = words[at]!;
  return (((low & plain.tableMask) ^ plain.table) | words[at + 1]!) === 0 ? (low >>> plain.frameShift) | 0 : 0;
}

/** Whether a plain leaf lets one access through that is a read or a write. */
function permits(plain: PlainEntries, access: number, low: number): boolean {
  return access === readAccess ? (low & plain.readMask) === plain.readable : access === writeAccess && (low & plain.writeMask) === plain.writable;
}

/** One thread's view of the page tables of one format. */
export class PageTable {
  readonly format: PageTableFormat;
  /** How many pages the last `mapRange` mapped. */
  mapped = 0;
  readonly #ram: Memory;
  readonly #frames: Frames;
  readonly #frameCount: number;
  /** How many pages an IOVA can name, without its sign. */
  readonly #pageCount: number;
  /** `mapPage` refuses frames from here on. */
  readonly #frameLimit: number;
  /** Bits of an IOVA's high word that are above the table's width: all 0, or all the sign. */
  readonly #beyond: number;
  readonly #rootMask: number;
  /** The format's: formats have many shapes. */
  readonly #levels: number;
  /** What walks do about accessed and dirty bits. */
  readonly #use: number;
  /** The format's plain entries, with the marks of use that they need to have here. */
  readonly #plain: PlainEntries | null;
  /** What there is in the place of a table of level 1. */
  readonly #entry = new WalkResult();

  /** `marksUse`: walks set the format's accessed and dirty bits, as hardware that was told to does. */
  constructor(ram: Memory, frames: Frames, format: PageTableFormat, marksUse: boolean = false) {
    this.format = format;
    this.#use = marksUse && format.accessedBit !== 0 ? marked : format.needsMarks ? demanded : ignored;
    this.#ram = ram;
    this.#frames = frames;
    this.#frameCount = ram.sizeBytes / pageBytes;
    this.#pageCount = 2 ** (format.inputBits - 12);
    this.#frameLimit = 2 ** (format.outputBits - 12);
    this.#beyond = beyondWidth(format.inputBits);
    this.#levels = format.levels;
    this.#rootMask = (rootEntriesOf(format) - 1) | 0;
    this.#plain = format.plain === undefined ? null : withMarks(format, format.plain, this.#use);
  }

  /** An empty root table, or 0 when RAM is used up. */
  create(): Frame {
    return this.#frames.allocateRun(Owner.TABLE, rootFrames(this.format), rootFrames(this.format));
  }

  /**
   * A root over one of a table with a level less, whose addresses stay where they are and which now belongs to the new one; 0 when RAM
   * is used up. Whoever has installed the old root installs this one in its place.
   */
  raise(root: Frame): Frame {
    const format = this.format;
    const raised = this.create();
    if (raised !== 0) install64(this.#ram, hpaOf(raised), format.tableHigh(root, format.levels), format.tableLow(root, format.levels), format.labels[format.levels]!);
    return raised;
  }

  /** Translates as hardware does. `access` is a set of `Access` bits. */
  walk(root: Frame, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    if (this.#levels === 4) return this.#walkFour(root, iovaHigh, iovaLow, access, result);
    return this.#walkFrom(root, this.#levels, accessMask, iovaHigh, iovaLow, access, result);
  }

  /** As `walk`, from a table of a lower level on: hardware remembers it from an earlier walk, in which the levels above granted `above`. */
  walkBelow(table: Frame, level: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    return this.#walkFrom(table, level, above, iovaHigh, iovaLow, access, result);
  }

  /** The same as no points, for oracles: what is mapped, whatever the permission. */
  translate(root: Frame, iovaHigh: number, iovaLow: number, result: WalkResult): WalkFault {
    return this.#descend(root, this.format.levels, accessMask, iovaHigh, iovaLow, 0, result, false, ignored);
  }

  /** How many pages the leaf has that maps the IOVA; 1 where none does. As no points. */
  pagesOfLeaf(root: Frame, iovaHigh: number, iovaLow: number): number {
    if (this.#isCanonical(iovaHigh) && this.#tableAt(root, iovaHigh, iovaLow, 1) > 0) return 1;
    const entry = this.#entry;
    return this.translate(root, iovaHigh, iovaLow, entry) === none ? 512 ** (entry.level - 1) : 1;
  }

  /**
   * A walk of four levels over plain entries alone, as integers; all else is left to `#walkAny`. It goes all the way down before it asks whether they were
   * plain: what is behind one that is not may be anything, and is dropped. Small enough to become part of its callers, and without loop or branch on the
   * way: each makes it twice as slow.
   */
  #walkFour(root: Frame, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    const plain = this.#plain;
    const { words, control } = this.#ram;
    if (plain !== null && control === null && (iovaHigh & this.#beyond) === 0) {
      const { tableMask, table, frameShift } = plain;
      const page = (iovaHigh << 20) | (iovaLow >>> 12);
      const at4 = (root << 10) + (((iovaHigh >>> 7) & this.#rootMask) << 1);
      const low4 = words[at4]!;
      const at3 = (((low4 >>> frameShift) & allFrames) << 10) | (((page >>> 18) & lastEntry) << 1);
      const low3 = words[at3]!;
      const at2 = (((low3 >>> frameShift) & allFrames) << 10) | (((page >>> 9) & lastEntry) << 1);
      const low2 = words[at2]!;
      const at1 = (((low2 >>> frameShift) & allFrames) << 10) | ((page & lastEntry) << 1);
      const low1 = words[at1]!;
      const highs = words[at4 | 1]! | words[at3 | 1]! | words[at2 | 1]! | words[at1 | 1]!;
      const unlike = ((low4 ^ table) | (low3 ^ table) | (low2 ^ table)) & tableMask;
      if ((highs | unlike) === 0 && permits(plain, access, low1)) return result.endAtPage(plain, accessMask, at1, low1);
    }
    return this.#walkAny(root, 4, accessMask, iovaHigh, iovaLow, access, result);
  }

  /** The same from a table of level 3 or below. Frame 0 holds no table, and a walk that has come to it is none of plain entries. */
  #walkFrom(top: Frame, topLevel: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    const plain = this.#plain;
    const { words, control } = this.#ram;
    if (plain !== null && control === null && topLevel < 4 && (iovaHigh & this.#beyond) === 0 && (access & ~above) === 0) {
      const page = (iovaHigh << 20) | (iovaLow >>> 12);
      let table: number = top;
      if (topLevel > 2) table = tableIn(words, plain, table, (page >>> 18) & (topLevel === this.#levels ? this.#rootMask : lastEntry));
      if (topLevel > 1) table = tableIn(words, plain, table, (page >>> 9) & lastEntry);
      const at = (table << 10) + ((page & lastEntry) << 1);
      const low = words[at]!;
      if (words[at + 1] === 0 && permits(plain, access, low)) return result.endAtPage(plain, above, at, low);
    }
    return this.#walkAny(top, topLevel, above, iovaHigh, iovaLow, access, result);
  }

  #walkAny(top: Frame, topLevel: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    return this.#descend(top, topLevel, above, iovaHigh, iovaLow, access, result, this.#ram.control !== null, this.#use);
  }

  #descend(top: Frame, topLevel: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult, announced: boolean, use: number): WalkFault {
    const format = this.format;
    const ram = this.#ram;
    const words = ram.words;
    const frameCount = this.#frameCount;
    let fault: WalkFault = this.#isCanonical(iovaHigh) ? none : WalkFault.BEYOND_WIDTH;
    const topMask = topLevel === format.levels ? this.#rootMask : 511;
    let level = topLevel + 1;
    let table: number = top;
    let seen: number = accessMask;
    let granted: number = above;
    let before: number = above;
    let mask = topMask;
    let index = 0;
    let low = 0;
    let high = 0;
    while (fault === none && (seen & leaf) === 0) {
      if (table >= frameCount) {
        fault = WalkFault.TABLE_ACCESS;
        break;
      }
      level -= 1 + (seen >>> skipShift);
      index = table * 1024 + entryIndex(level, iovaHigh, iovaLow, mask) * 2;
      mask = lastEntry;
      if (announced) read64(ram, index * 4, format.labels[level]!);
      low = words[index]!;
      high = words[index + 1]!;
      seen = format.inspect(level, high, low);
      before = granted;
      granted &= seen;
      table = format.frameOf(high, low);
      if (seen === 0) fault = notPresent;
      else if (seen > usable) fault = obstacle(seen, level, iovaHigh, iovaLow);
      if (use === ignored || fault !== none) continue;
      if (use === demanded) {
        if ((seen & leaf) !== 0) fault = this.#unmarked(low, access & granted);
        continue;
      }
      const now = this.#mark(index * 4, level, low, (seen & leaf) !== 0, access, granted);
      if (now !== 0) low = now;
      else {
        // Another party changed the entry since it was read: what it says now is for a new walk.
        level = topLevel + 1;
        table = top;
        seen = accessMask;
        granted = above;
        mask = topMask;
      }
    }
    if (fault === none) fault = denied(access & ~granted);
    result.fault = fault;
    result.frame = (level === 1 && seen <= usable ? table : firstFrame(table, seen) + withinLeaf(level, iovaHigh, iovaLow, seen)) as Frame;
    result.permissions = granted;
    result.permissionsAbove = before;
    result.level = level;
    result.entryAt = index * 4;
    result.entryHigh = high;
    result.entryLow = low;
    return fault;
  }

  /**
   * Sets the accessed bit of an entry in use, and says of a leaf that is written that it is dirty; nothing in a leaf that refuses the
   * access. By compare-and-swap, so that no bit appears in an entry that somebody replaced. Returns the low word of the entry as
   * it is now, 0 when the exchange failed.
   */
  #mark(at: number, level: number, low: number, isLeaf: boolean, access: number, granted: number): number {
    const format = this.format;
    if (!isLeaf && !format.marksTables) return low;
    let wanted = low | format.accessedBit;
    if (isLeaf) {
      if ((access & ~granted) !== 0) return low;
      if ((access & Access.WRITE) !== 0) wanted = (wanted | format.dirtyBit) & ~format.cleanBit;
    }
    if (wanted === low) return low;
    return compareExchange(this.#ram, at, low, wanted, format.labels[level]!) === low ? wanted : 0;
  }

  /** Whether a leaf can be used as it is by hardware that sets no bit in it. */
  #unmarked(low: number, access: number): WalkFault {
    const { accessedBit, dirtyBit, cleanBit } = this.format;
    if ((low & accessedBit) === 0) return WalkFault.NOT_ACCESSED;
    const isDirty = (low & (dirtyBit | cleanBit)) === dirtyBit;
    return isDirty || (access & Access.WRITE) === 0 ? none : WalkFault.WRITE_DENIED;
  }

  /** Whether the bits of an IOVA above the table's width are its sign. */
  #isCanonical(iovaHigh: number): boolean {
    const above = iovaHigh & this.#beyond;
    return above === 0 || (above === this.#beyond && this.format.signExtended);
  }

  /** Byte address of the entry for the IOVA in a table of that level. */
  #entryAt(table: Frame, level: number, iovaHigh: number, iovaLow: number): number {
    return hpaOf(table) + indexAt(level, iovaHigh, iovaLow, level === this.format.levels ? this.#rootMask : 511) * 8;
  }

  /**
   * Maps one page of 4 KiB. `ENOMEM` when a table is missing and RAM is used up, `EADDRINUSE` when something is mapped there,
   * `ERANGE` for an IOVA or a frame beyond the format's width, `EINVAL` without any permission (SEMANTICS B13).
   */
  mapPage(root: Frame, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number): 0 | MapFailure {
    return this.#mapLeaves(root, iovaHigh, iovaLow, frame, permissions, 1, 1);
  }

  /**
   * Maps `pageCount` pages to consecutive frames, with the largest leaves up to level `largestLeaf` that IOVA, frame and what is left
   * allow. A table that is in a large leaf's place stays, and the pages go below it. Errors as of `mapPage`; `mapped` says how many
   * pages were mapped, also then.
   */
  mapRange(root: Frame, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, pageCount: number, largestLeaf: number = 1): 0 | MapFailure {
    const largest = Math.min(largestLeaf, this.format.largestLeaf);
    let mapped = 0;
    let error: 0 | MapFailure = 0;
    for (let high = iovaHigh, low = iovaLow; mapped < pageCount && error === 0; ) {
      const next = (frame + mapped) as Frame;
      const level = largest === 1 ? 1 : this.#leafLevel(root, high, low, next, pageCount - mapped, largest);
      const inTable = level === 1 ? Math.min(pageCount - mapped, 512 - indexAt(1, high, low, 511)) : 1;
      error = this.#mapLeaves(root, high, low, next, permissions, level, inTable);
      mapped += this.mapped;
      const page = pageNumber(iovaHigh, iovaLow) + mapped;
      high = highOf(page);
      low = lowOf(page);
    }
    this.mapped = mapped;
    return error;
  }

  /** The level of the largest leaf that can stand at the IOVA. Silent. */
  #leafLevel(root: Frame, iovaHigh: number, iovaLow: number, frame: Frame, pages: number, largest: number): number {
    let level = largest;
    for (; level > 1; level--) {
      const span = 512 ** (level - 1);
      if (pages < span || frame % span !== 0 || pageNumber(iovaHigh, iovaLow) % span !== 0) continue;
      if (!this.#isTable(root, iovaHigh, iovaLow, level)) break;
    }
    return level;
  }

  /** Whether the entry of that level names a table. */
  #isTable(root: Frame, iovaHigh: number, iovaLow: number, level: number): boolean {
    const table = this.#tableAt(root, iovaHigh, iovaLow, level);
    if (table <= 0) return false;
    const at = this.#entryAt(table, level, iovaHigh, iovaLow);
    const low = peek(this.#ram, at);
    return low !== 0 && this.#tableIn(level, peek(this.#ram, at + 4), low) > 0;
  }

  /** So many leaves of one table, to consecutive frames. `mapped` is how many pages they are, also when not all could be put. */
  #mapLeaves(root: Frame, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, level: number, leaves: number): 0 | MapFailure {
    const format = this.format;
    this.mapped = 0;
    if ((permissions & accessMask) === 0) return 'EINVAL';
    if (!this.#isCanonical(iovaHigh) || frame >= this.#frameLimit) return 'ERANGE';
    let table = this.#tableAt(root, iovaHigh, iovaLow, level);
    if (table <= 0) table = this.#makeTables(root, iovaHigh, iovaLow, level);
    if (table <= 0) return table === 0 ? 'ENOMEM' : 'EADDRINUSE';
    const at = this.#entryAt(table, level, iovaHigh, iovaLow);
    const high = format.leafHigh(frame, permissions, level);
    const low = format.leafLow(frame, permissions, level);
    const count = leaves === 1 ? 1 : this.#alike(frame, permissions, high, leaves);
    const step = count === 1 ? 0 : format.leafLow((frame + 1) as Frame, permissions, level) - low;
    const put = installRun64(this.#ram, at, high, low, step, count, format.labels[level]!);
    this.mapped = level === 1 ? put : put * 512 ** (level - 1);
    return put === count ? 0 : 'EADDRINUSE';
  }

  /** How many of the leaves of level 1 have the same high word and a frame that the format can name: all, but at a multiple of 4 GiB. At least one. */
  #alike(frame: Frame, permissions: number, high: number, leaves: number): number {
    const last = frame + leaves - 1;
    return last < this.#frameLimit && this.format.leafHigh(last as Frame, permissions, 1) === high ? leaves : 1;
  }

  /** The table of level `until` on the way to the IOVA; 0 when a table is missing, -1 when a large leaf is there, or a skip. Silent. */
  #tableAt(root: Frame, iovaHigh: number, iovaLow: number, until: number): Frame {
    const plain = this.#plain;
    if (plain !== null && until === 1) {
      const table = this.#plainTable(plain, root, iovaHigh, iovaLow);
      if (table !== 0) return table;
    }
    return this.#anyTableAt(root, iovaHigh, iovaLow, until);
  }

  /** The table of level 1 below plain entries of at most four levels, else 0. */
  #plainTable(plain: PlainEntries, root: Frame, iovaHigh: number, iovaLow: number): Frame {
    const levels = this.#levels;
    if (levels > 4) return 0 as Frame;
    const words = this.#ram.words;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    let table: number = root;
    if (levels === 4) table = tableIn(words, plain, table, (iovaHigh >>> 7) & this.#rootMask);
    table = tableIn(words, plain, table, (page >>> 18) & (levels === 4 ? lastEntry : this.#rootMask));
    return tableIn(words, plain, table, (page >>> 9) & lastEntry) as Frame;
  }

  #anyTableAt(root: Frame, iovaHigh: number, iovaLow: number, until: number): Frame {
    const format = this.format;
    const words = this.#ram.words;
    let table = root;
    let mask = this.#rootMask;
    for (let level = format.levels; level > until; level--) {
      const index = table * 1024 + entryIndex(level, iovaHigh, iovaLow, mask) * 2;
      mask = lastEntry;
      const low = words[index]!;
      const high = words[index + 1]!;
      if (low === 0) return 0 as Frame;
      if ((format.inspect(level, high, low) & noTable) !== 0) return -1 as Frame;
      table = format.frameOf(high, low);
    }
    return table;
  }

  /** As `#tableAt`, but makes what is missing; 0 without memory. */
  #makeTables(root: Frame, iovaHigh: number, iovaLow: number, until: number): Frame {
    let table = root;
    for (let level = this.format.levels; level > until && table > 0; level--) {
      const at = this.#entryAt(table, level, iovaHigh, iovaLow);
      const low = peek(this.#ram, at);
      table = low === 0 ? this.#installTable(at, level) : this.#tableIn(level, peek(this.#ram, at + 4), low);
    }
    return table;
  }

  /** Two mappers may miss the same table: the loser of the exchange frees its own and goes on in the winner's. */
  #installTable(at: number, level: number): Frame {
    const format = this.format;
    const ours = this.#frames.allocate(Owner.TABLE);
    if (ours === 0) return ours;
    const found = install64(this.#ram, at, format.tableHigh(ours, level), format.tableLow(ours, level), format.labels[level]!);
    if (found === 0) return ours;
    this.#frames.drop(ours);
    return this.#tableIn(level, peek(this.#ram, at + 4), found);
  }

  #tableIn(level: number, high: number, low: number): Frame {
    return (this.format.inspect(level, high, low) & noTable) !== 0 ? (-1 as Frame) : this.format.frameOf(high, low);
  }

  /**
   * Clears every leaf in the range and returns how many pages that removed; holes are passed over. A large leaf goes as a
   * whole when the range holds its first page, and stays otherwise (SEMANTICS B13). Tables stay, empty or not, until `destroy`:
   * a walker may be inside, and a unit may have cached them, until a non-leaf invalidation.
   */
  unmap(root: Frame, iovaHigh: number, iovaLow: number, pageCount: number): number {
    let high = iovaHigh;
    let low = iovaLow;
    let left = this.#isCanonical(high) ? Math.min(pageCount, (high < 0 ? allPages : this.#pageCount) - pageNumber(high, low)) : 0;
    let removed = 0;
    while (left > 0) {
      const table = this.#tableAt(root, high, low, 1);
      let passed: number;
      if (table > 0) {
        const index = indexAt(1, high, low, 511);
        passed = Math.min(left, 512 - index);
        removed += clearRun64(this.#ram, hpaOf(table) + index * 8, passed, this.format.labels[1]!);
      } else {
        const entry = this.#entry;
        const found = this.translate(root, high, low, entry) === none;
        const span = 512 ** (entry.level - 1);
        const within = pageNumber(high, low) % span;
        if (found && within === 0) removed += span * clearRun64(this.#ram, entry.entryAt, 1, this.format.labels[entry.level]!);
        passed = span - within;
      }
      left -= passed;
      if (left <= 0) break;
      const next = pageNumber(high, low) + passed;
      high = highOf(next);
      low = lowOf(next);
    }
    return removed;
  }

  /** How many pages of 4 KiB its leaves cover, as no point: for oracles. */
  leafPages(root: Frame): number {
    return this.#leafPagesBelow(root, this.format.levels);
  }

  #leafPagesBelow(table: Frame, level: number): number {
    let pages = 0;
    for (let at: number = hpaOf(table); at < hpaOf(table) + 4096; at += 8) {
      const low = peek(this.#ram, at);
      if (low === 0) continue;
      const next = this.#tableIn(level, peek(this.#ram, at + 4), low);
      pages += next > 0 ? this.#leafPagesBelow(next, level - 1) : 512 ** (level - 1);
    }
    return pages;
  }

  /** Frees every table. Nobody may walk, map or unmap any more. */
  destroy(root: Frame): void {
    this.#destroyBelow(root, this.format.levels);
  }

  #destroyBelow(table: Frame, level: number): void {
    const isRoot = level === this.format.levels;
    const words = this.#ram.words;
    const end = level === 1 ? 0 : (table << 10) + ((isRoot ? this.#rootMask : lastEntry) + 1) * 2;
    for (let index = table << 10; index < end; index += 2) {
      const low = words[index]!;
      if (low === 0) continue;
      const next = this.#tableIn(level, words[index + 1]!, low);
      if (next > 0) this.#destroyBelow(next, level - 1);
    }
    for (let frame = table + (isRoot ? rootFrames(this.format) : 1) - 1; frame >= table; frame--) this.#frames.drop(frame as Frame);
  }
}

/** The frame where a leaf begins: one of 64 KiB names its ninth. */
function firstFrame(named: number, seen: number): number {
  return (seen & leaf64K) === 0 ? named : named - 8;
}

/** Which page of it the IOVA is in. */
function withinLeaf(level: number, iovaHigh: number, iovaLow: number, seen: number): number {
  return (seen & leaf64K) === 0 ? pageWithin(level, iovaHigh, iovaLow) : (iovaLow >>> 12) & 15;
}

/** Why an entry that is not plain cannot be used, if so. */
function obstacle(seen: number, level: number, iovaHigh: number, iovaLow: number): WalkFault {
  if ((seen & refused) !== 0) return (seen & reserved) !== 0 ? WalkFault.RESERVED : WalkFault.SUPERVISOR;
  if ((seen & leaf) !== 0) return none;
  const next = level - 1 - (seen >>> skipShift);
  return pageNumber(iovaHigh, iovaLow) % 512 ** (level - 1) >= 512 ** next ? notPresent : none;
}

function rootEntriesOf({ levels, inputBits, signExtended }: PageTableFormat): number {
  return rootEntries(levels, inputBits + (signExtended ? 1 : 0));
}

/** How many frames a root is, in a place that is a multiple of that. */
function rootFrames(format: PageTableFormat): number {
  return Math.max(1, rootEntriesOf(format) / 512);
}

function denied(missing: number): WalkFault {
  if (missing === 0) return WalkFault.NONE;
  return (missing & Access.READ) !== 0 ? WalkFault.READ_DENIED : WalkFault.WRITE_DENIED;
}
