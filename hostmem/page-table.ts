/**
 * Page tables in RAM as software has them: it maps and unmaps what hardware walks (`page-walk.ts`), written once over a format (`formats/*`, one file each).
 *
 * Tables are frames of 512 entries of 64 bits, a root up to four of them; nothing is kept outside RAM, so that hardware and kernel share the entries as two
 * machines would. Who maps and unmaps takes one point for each leaf, and one for each table it installs: it may read the tables in between silently, because
 * an installed table stays until `destroy`. IOVAs are (high, low) pairs of 32-bit words. This file does not know of caches: whoever changes a leaf invalidates.
 */
import { clearRun64, install64, installRun64, peek } from './atomics.ts';
import { Owner, type Frames } from './frames.ts';
import { highOf, indexAt, lowOf, pageNumber } from './iova.ts';
import { hpaOf, type Frame, type Memory } from './memory.ts';
import { accessMask, Entry, rootEntriesOf, type PageTableFormat, type PlainEntries } from './page-table-format.ts';
import { PageWalker, WalkFault, WalkResult } from './page-walk.ts';
import { plainTableIn } from './plain-entries.ts';

/** Why nothing more was mapped. */
type MapFailure = 'ENOMEM' | 'EADDRINUSE' | 'ERANGE' | 'EINVAL';

/** Copies: V8 folds a module's own constants, and loads and checks exported ones at each use. */
const entryIndex = indexAt;
/** Set in what is no table of the level below. */
const noTable = Entry.LEAF | -Entry.SKIP;
const none = WalkFault.NONE;
/** Bits of an index into a table that is not the root. */
const lastEntry = 511;

/** The page number behind the last one of 64 bits. */
const allPages = 2 ** 52;

/** One thread's view of the page tables of one format, which it changes. */
export class PageTable extends PageWalker {
  /** How many pages the last `mapRange` mapped. */
  mapped = 0;
  readonly #frames: Frames;
  /** How many pages an IOVA can name, without its sign. */
  readonly #pageCount: number;
  /** `mapPage` refuses frames from here on. */
  readonly #frameLimit: number;
  /** What there is in the place of a table of level 1. */
  readonly #entry = new WalkResult();

  /** `marksUse` as of `PageWalker`. */
  constructor(ram: Memory, frames: Frames, format: PageTableFormat, marksUse: boolean = false) {
    super(ram, format, marksUse);
    this.#frames = frames;
    this.#pageCount = 2 ** (format.inputBits - 12);
    this.#frameLimit = 2 ** (format.outputBits - 12);
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
    if (raised !== 0) install64(this.ram, hpaOf(raised), format.tableHigh(root, format.levels), format.tableLow(root, format.levels), format.labels[format.levels]!);
    return raised;
  }

  /** How many pages the leaf has that maps the IOVA; 1 where none does. As no points. */
  pagesOfLeaf(root: Frame, iovaHigh: number, iovaLow: number): number {
    if (this.isCanonical(iovaHigh) && this.#tableAt(root, iovaHigh, iovaLow, 1) > 0) return 1;
    const entry = this.#entry;
    return this.translate(root, iovaHigh, iovaLow, entry) === none ? 512 ** (entry.level - 1) : 1;
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
    const low = peek(this.ram, at);
    return low !== 0 && this.#tableIn(level, peek(this.ram, at + 4), low) > 0;
  }

  /** So many leaves of one table, to consecutive frames. `mapped` is how many pages they are, also when not all could be put. */
  #mapLeaves(root: Frame, iovaHigh: number, iovaLow: number, frame: Frame, permissions: number, level: number, leaves: number): 0 | MapFailure {
    const format = this.format;
    this.mapped = 0;
    if ((permissions & accessMask) === 0) return 'EINVAL';
    if (!this.isCanonical(iovaHigh) || frame >= this.#frameLimit) return 'ERANGE';
    let table = this.#tableAt(root, iovaHigh, iovaLow, level);
    if (table <= 0) table = this.#makeTables(root, iovaHigh, iovaLow, level);
    if (table <= 0) return table === 0 ? 'ENOMEM' : 'EADDRINUSE';
    const at = this.#entryAt(table, level, iovaHigh, iovaLow);
    const high = format.leafHigh(frame, permissions, level);
    const low = format.leafLow(frame, permissions, level);
    const count = leaves === 1 ? 1 : this.#alike(frame, permissions, high, leaves);
    const step = count === 1 ? 0 : format.leafLow((frame + 1) as Frame, permissions, level) - low;
    const put = installRun64(this.ram, at, high, low, step, count, format.labels[level]!);
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
    const plain = this.plain;
    if (plain !== null && until === 1) {
      const table = this.#plainTable(plain, root, iovaHigh, iovaLow);
      if (table !== 0) return table;
    }
    return this.#anyTableAt(root, iovaHigh, iovaLow, until);
  }

  /** The table of level 1 below plain entries of at most four levels, else 0. */
  #plainTable(plain: PlainEntries, root: Frame, iovaHigh: number, iovaLow: number): Frame {
    const levels = this.levels;
    if (levels > 4) return 0 as Frame;
    const words = this.ram.words;
    const page = (iovaHigh << 20) | (iovaLow >>> 12);
    let table: number = root;
    if (levels === 4) table = plainTableIn(words, plain, table, (iovaHigh >>> 7) & this.rootMask);
    table = plainTableIn(words, plain, table, (page >>> 18) & (levels === 4 ? lastEntry : this.rootMask));
    return plainTableIn(words, plain, table, (page >>> 9) & lastEntry) as Frame;
  }

  #anyTableAt(root: Frame, iovaHigh: number, iovaLow: number, until: number): Frame {
    const format = this.format;
    const words = this.ram.words;
    let table = root;
    let mask = this.rootMask;
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
      const low = peek(this.ram, at);
      table = low === 0 ? this.#installTable(at, level) : this.#tableIn(level, peek(this.ram, at + 4), low);
    }
    return table;
  }

  /** Two mappers may miss the same table: the loser of the exchange frees its own and goes on in the winner's. */
  #installTable(at: number, level: number): Frame {
    const format = this.format;
    const ours = this.#frames.allocate(Owner.TABLE);
    if (ours === 0) return ours;
    const found = install64(this.ram, at, format.tableHigh(ours, level), format.tableLow(ours, level), format.labels[level]!);
    if (found === 0) return ours;
    this.#frames.drop(ours);
    return this.#tableIn(level, peek(this.ram, at + 4), found);
  }

  #tableIn(level: number, high: number, low: number): Frame {
    return (this.format.inspect(level, high, low) & noTable) !== 0 ? (-1 as Frame) : this.format.frameOf(high, low);
  }

  /** Byte address of the entry for the IOVA in a table of that level. */
  #entryAt(table: Frame, level: number, iovaHigh: number, iovaLow: number): number {
    return hpaOf(table) + indexAt(level, iovaHigh, iovaLow, level === this.format.levels ? this.rootMask : 511) * 8;
  }

  /**
   * Clears every leaf in the range and returns how many pages that removed; holes are passed over. A large leaf goes as a
   * whole when the range holds its first page, and stays otherwise (SEMANTICS B13). Tables stay, empty or not, until `destroy`:
   * a walker may be inside, and a unit may have cached them, until a non-leaf invalidation.
   */
  unmap(root: Frame, iovaHigh: number, iovaLow: number, pageCount: number): number {
    let high = iovaHigh;
    let low = iovaLow;
    let left = this.isCanonical(high) ? Math.min(pageCount, (high < 0 ? allPages : this.#pageCount) - pageNumber(high, low)) : 0;
    let removed = 0;
    while (left > 0) {
      const table = this.#tableAt(root, high, low, 1);
      let passed: number;
      if (table > 0) {
        const index = indexAt(1, high, low, 511);
        passed = Math.min(left, 512 - index);
        removed += clearRun64(this.ram, hpaOf(table) + index * 8, passed, this.format.labels[1]!);
      } else {
        const entry = this.#entry;
        const found = this.translate(root, high, low, entry) === none;
        const span = 512 ** (entry.level - 1);
        const within = pageNumber(high, low) % span;
        if (found && within === 0) removed += span * clearRun64(this.ram, entry.entryAt, 1, this.format.labels[entry.level]!);
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
      const low = peek(this.ram, at);
      if (low === 0) continue;
      const next = this.#tableIn(level, peek(this.ram, at + 4), low);
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
    const words = this.ram.words;
    const end = level === 1 ? 0 : (table << 10) + ((isRoot ? this.rootMask : lastEntry) + 1) * 2;
    for (let index = table << 10; index < end; index += 2) {
      const low = words[index]!;
      if (low === 0) continue;
      const next = this.#tableIn(level, words[index + 1]!, low);
      if (next > 0) this.#destroyBelow(next, level - 1);
    }
    for (let frame = table + (isRoot ? rootFrames(this.format) : 1) - 1; frame >= table; frame--) this.#frames.drop(frame as Frame);
  }
}

/** How many frames a root is, in a place that is a multiple of that. */
function rootFrames(format: PageTableFormat): number {
  return Math.max(1, rootEntriesOf(format) / 512);
}
