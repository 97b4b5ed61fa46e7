/**
 * The walk of hardware through page tables in RAM, top down, one point an entry, written once over a format (`formats/*`, one file each).
 *
 * A walker that marks use sets accessed and dirty bits as it goes, one more point for each entry it changes. IOVAs are (high, low) pairs of 32-bit words.
 * Leaves of 64 KiB (RISC-V Svnapot) and tables that skip levels (AMD v1) are walked; nobody makes them. What an entry says is seen at once (a coherent walker).
 */
import { compareExchange, read64 } from './atomics.ts';
import { beyondWidth, indexAt, pageNumber, pageWithin } from './iova.ts';
import { pageBytes, type Frame, type Memory } from './memory.ts';
import { Access, accessMask, Entry, Marks, rootEntriesOf, type PageTableFormat, type PlainEntries } from './page-table-format.ts';
import { allFrames, plainLeafPermits, plainTableIn, withMarks } from './plain-entries.ts';

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
const none = WalkFault.NONE;
/** Bits of an index into a table that is not the root. */
const lastEntry = 511;
const notPresent = WalkFault.NOT_PRESENT;
const ignored = Marks.IGNORED;
const marked = Marks.SET;
const demanded = Marks.DEMANDED;

/** One thread's view of the page tables of one format, as hardware has it. */
export class PageWalker {
  readonly format: PageTableFormat;
  protected readonly ram: Memory;
  /** The format's: formats have many shapes. */
  protected readonly levels: number;
  /** Bits of an index into the root. */
  protected readonly rootMask: number;
  /** The format's plain entries, with the marks of use that they need to have here. */
  protected readonly plain: PlainEntries | null;
  readonly #frameCount: number;
  /** Bits of an IOVA's high word that are above the table's width: all 0, or all the sign. */
  readonly #beyond: number;
  /** Of `Marks`. */
  readonly #use: number;

  /** `marksUse`: walks set the format's accessed and dirty bits, as hardware that was told to does. */
  constructor(ram: Memory, format: PageTableFormat, marksUse: boolean = false) {
    this.format = format;
    this.ram = ram;
    this.levels = format.levels;
    this.rootMask = (rootEntriesOf(format) - 1) | 0;
    this.#use = marksUse && format.accessedBit !== 0 ? marked : format.needsMarks ? demanded : ignored;
    this.plain = format.plain === undefined ? null : withMarks(format, format.plain, this.#use);
    this.#frameCount = ram.sizeBytes / pageBytes;
    this.#beyond = beyondWidth(format.inputBits);
  }

  /** Translates as hardware does. `access` is a set of `Access` bits. */
  walk(root: Frame, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    if (this.levels === 4) return this.#walkFour(root, iovaHigh, iovaLow, access, result);
    return this.#walkFrom(root, this.levels, accessMask, iovaHigh, iovaLow, access, result);
  }

  /** As `walk`, from a table of a lower level on: hardware remembers it from an earlier walk, in which the levels above granted `above`. */
  walkBelow(table: Frame, level: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    return this.#walkFrom(table, level, above, iovaHigh, iovaLow, access, result);
  }

  /** The same as no points, for oracles: what is mapped, whatever the permission. */
  translate(root: Frame, iovaHigh: number, iovaLow: number, result: WalkResult): WalkFault {
    return this.#descend(root, this.format.levels, accessMask, iovaHigh, iovaLow, 0, result, false, ignored);
  }

  /**
   * A walk of four levels over plain entries alone, as integers; all else is left to `#walkAny`. It goes all the way down before it asks whether they were
   * plain: what is behind one that is not may be anything, and is dropped. Small enough to become part of its callers, and without loop or branch on the
   * way: each makes it twice as slow.
   */
  #walkFour(root: Frame, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    const plain = this.plain;
    const { words, control } = this.ram;
    if (plain !== null && control === null && (iovaHigh & this.#beyond) === 0) {
      const { tableMask, table, frameShift } = plain;
      const page = (iovaHigh << 20) | (iovaLow >>> 12);
      const at4 = (root << 10) + (((iovaHigh >>> 7) & this.rootMask) << 1);
      const low4 = words[at4]!;
      const at3 = (((low4 >>> frameShift) & allFrames) << 10) | (((page >>> 18) & lastEntry) << 1);
      const low3 = words[at3]!;
      const at2 = (((low3 >>> frameShift) & allFrames) << 10) | (((page >>> 9) & lastEntry) << 1);
      const low2 = words[at2]!;
      const at1 = (((low2 >>> frameShift) & allFrames) << 10) | ((page & lastEntry) << 1);
      const low1 = words[at1]!;
      const highs = words[at4 | 1]! | words[at3 | 1]! | words[at2 | 1]! | words[at1 | 1]!;
      const unlike = ((low4 ^ table) | (low3 ^ table) | (low2 ^ table)) & tableMask;
      if ((highs | unlike) === 0 && plainLeafPermits(plain, access, low1)) return result.endAtPage(plain, accessMask, at1, low1);
    }
    return this.#walkAny(root, 4, accessMask, iovaHigh, iovaLow, access, result);
  }

  /** The same from a table of level 3 or below. Frame 0 holds no table, and a walk that has come to it is none of plain entries. */
  #walkFrom(top: Frame, topLevel: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    const plain = this.plain;
    const { words, control } = this.ram;
    if (plain !== null && control === null && topLevel < 4 && (iovaHigh & this.#beyond) === 0 && (access & ~above) === 0) {
      const page = (iovaHigh << 20) | (iovaLow >>> 12);
      let table: number = top;
      if (topLevel > 2) table = plainTableIn(words, plain, table, (page >>> 18) & (topLevel === this.levels ? this.rootMask : lastEntry));
      if (topLevel > 1) table = plainTableIn(words, plain, table, (page >>> 9) & lastEntry);
      const at = (table << 10) + ((page & lastEntry) << 1);
      const low = words[at]!;
      if (words[at + 1] === 0 && plainLeafPermits(plain, access, low)) return result.endAtPage(plain, above, at, low);
    }
    return this.#walkAny(top, topLevel, above, iovaHigh, iovaLow, access, result);
  }

  #walkAny(top: Frame, topLevel: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult): WalkFault {
    return this.#descend(top, topLevel, above, iovaHigh, iovaLow, access, result, this.ram.control !== null, this.#use);
  }

  #descend(top: Frame, topLevel: number, above: number, iovaHigh: number, iovaLow: number, access: number, result: WalkResult, announced: boolean, use: number): WalkFault {
    const format = this.format;
    const ram = this.ram;
    const words = ram.words;
    const frameCount = this.#frameCount;
    let fault: WalkFault = this.isCanonical(iovaHigh) ? none : WalkFault.BEYOND_WIDTH;
    const topMask = topLevel === format.levels ? this.rootMask : 511;
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
    return compareExchange(this.ram, at, low, wanted, format.labels[level]!) === low ? wanted : 0;
  }

  /** Whether a leaf can be used as it is by hardware that sets no bit in it. */
  #unmarked(low: number, access: number): WalkFault {
    const { accessedBit, dirtyBit, cleanBit } = this.format;
    if ((low & accessedBit) === 0) return WalkFault.NOT_ACCESSED;
    const isDirty = (low & (dirtyBit | cleanBit)) === dirtyBit;
    return isDirty || (access & Access.WRITE) === 0 ? none : WalkFault.WRITE_DENIED;
  }

  /** Whether the bits of an IOVA above the table's width are its sign. */
  protected isCanonical(iovaHigh: number): boolean {
    const above = iovaHigh & this.#beyond;
    return above === 0 || (above === this.#beyond && this.format.signExtended);
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

function denied(missing: number): WalkFault {
  if (missing === 0) return WalkFault.NONE;
  return (missing & Access.READ) !== 0 ? WalkFault.READ_DENIED : WalkFault.WRITE_DENIED;
}
