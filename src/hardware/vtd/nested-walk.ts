/**
 * The walk of a VT-d unit through both stages (VT-d specification 3.8; SEMANTICS c.10), as one thread sees it: tables of the first stage are
 * guest memory, and each access to them is translated by the second one, as is at last the page: 4 x (4 + 1) + 4 reads for four levels each.
 *
 * An access to a table is a read, and a write where an accessed or dirty bit is set in it. Each entry is a point, and each exchange of
 * such bits. Nothing is cached here.
 */
import { compareExchange, read64 } from '#hostmem/atomics';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { Owner, type Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { highOf, indexAt, lowOf, pageWithin } from '#hostmem/iova';
import { frameOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import { Access, Entry, type PageTableFormat } from '#hostmem/page-table-format';
import { WalkFault, WalkResult, type PageWalker } from '#hostmem/page-walk';
import { tellDeadTable } from '../dead-table.ts';
import { deadTableRead } from '../events.ts';
import type { Requester } from '../translation-unit.ts';
import { ScalableReason, scalableReasonOf } from './faults.ts';

const everything = Access.READ | Access.WRITE;
/** An entry was changed by another party since it was read: the walk begins anew. */
const changed = -1;

/** First-stage entries that leave nothing to be done: present, of users, accessed; a table that takes no permission away, a leaf that is dirty where it can be written. */
const PlainFirst = { tableMask: 0xa7, table: 0x27, readable: 0x25, writable: 0x67 } as const;
/** Of both stages; and an entry of the second that is read and written through, and no large leaf. */
const plainLevels = 4;
const plainSecondMask = 0x83;
const plainSecondEntry = 3;
/** Bits of an index into a table. */
const lastEntry = 511;

/** What an access of the walk is for. */
export const WalkStep = { TABLE_READ: 1, TABLE_MARK: 2, PAGE: 3 } as const;

export class NestedWalk {
  /** Of a walk that succeeded: the frame, the page of the guest that it is, and what both stages grant. */
  frame = 0 as Frame;
  guestPage = 0;
  permissions = 0;
  /** Of one that failed: what its last access was for (a `WalkStep`), and the guest's page. Where the second stage refused it, `second` says why. */
  step: number = WalkStep.PAGE;
  accessed = 0;
  readonly second = new WalkResult();
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #frames: Frames;
  readonly #frameCount: number;
  /** By number of levels. */
  readonly #formats: readonly (PageTableFormat | null)[] = [null, null, null, null, vtdFirstStage(4), vtdFirstStage(5)];
  readonly #marks: boolean;
  #sourceId = 0;
  #requester: Requester | null = null;
  #tables: PageWalker | null = null;
  /** Byte address in RAM of the entry that was located last. */
  #at = 0;
  /** Of `#walkPlain`: not 0 if an entry was not plain. */
  #unlike = 0;

  /** Without `marks`, for who only looks: no accessed or dirty bit is set. */
  constructor(host: Host, marks: boolean = true) {
    this.#marks = marks;
    this.#kernel = host.kernel;
    this.#ram = host.ram;
    this.#frames = host.frames;
    this.#frameCount = host.ram.sizeBytes / pageBytes;
  }

  /** Translates one page through a requester's first stage and the second one, whose `tables` fit it. */
  walk(requester: Requester, tables: PageWalker, sourceId: number, iovaHigh: number, iovaLow: number, access: number): ScalableReason {
    const format = this.#formats[requester.levels]!;
    this.#requester = requester;
    this.#tables = tables;
    this.#sourceId = sourceId;
    const sign = -1 << (format.inputBits - 32);
    if ((iovaHigh & sign) !== 0 && (iovaHigh & sign) !== sign) return ScalableReason.NOT_CANONICAL;
    const isUnwatched = this.#ram.control === null && this.#kernel.history === null;
    const isPlain = isUnwatched && !requester.marksUse && requester.levels === plainLevels && requester.secondLevels === plainLevels;
    if (isPlain && this.#walkPlain(requester, iovaHigh, iovaLow, access)) return ScalableReason.NONE;
    for (;;) {
      const reason = this.#descend(format, requester.root, iovaHigh, iovaLow, access);
      if (reason !== changed) return reason;
    }
  }

  /**
   * The same over entries as software nearly always writes them, with nothing to mark and below 4 GiB: as integers, all the way down before it asks
   * whether they were all plain. False leaves the walk to `#descend`.
   */
  #walkPlain({ root, secondRoot }: Requester, iovaHigh: number, iovaLow: number, access: number): boolean {
    const words = this.#ram.words;
    this.#unlike = 0;
    const third = this.#plainTable(words, secondRoot, root, (iovaHigh >>> 7) & lastEntry);
    const second = this.#plainTable(words, secondRoot, third, ((iovaHigh << 2) | (iovaLow >>> 30)) & lastEntry);
    const first = this.#plainTable(words, secondRoot, second, (iovaLow >>> 21) & lastEntry);
    const at = (this.#plainSecond(words, secondRoot, first) << 10) | (((iovaLow >>> 12) & lastEntry) << 1);
    const leaf = words[at]!;
    const guestPage = leaf >>> 12;
    const frame = this.#plainSecond(words, secondRoot, guestPage);
    if ((this.#unlike | words[at | 1]!) !== 0 || (leaf & PlainFirst.readable) !== PlainFirst.readable) return false;
    const isWritable = (leaf & PlainFirst.writable) === PlainFirst.writable;
    if (!isWritable && (access & Access.WRITE) !== 0) return false;
    this.frame = frame as Frame;
    this.guestPage = guestPage;
    this.permissions = isWritable ? everything : Access.READ;
    return true;
  }

  /** The guest's page that an entry of a table of its first stage names, in the guest's page `table`. */
  #plainTable(words: Int32Array, secondRoot: number, table: number, index: number): number {
    const at = (this.#plainSecond(words, secondRoot, table) << 10) | (index << 1);
    const low = words[at]!;
    this.#unlike |= ((low & PlainFirst.tableMask) ^ PlainFirst.table) | words[at | 1]!;
    return low >>> 12;
  }

  /** The frame of a guest's page below 4 GiB. Nothing is beyond RAM: `words` has no such entry, and what is not there is not plain. */
  #plainSecond(words: Int32Array, secondRoot: number, page: number): number {
    const at4 = secondRoot << 10;
    const low4 = words[at4]!;
    const at3 = ((low4 >>> 12) << 10) | ((page >>> 18) << 1);
    const low3 = words[at3]!;
    const at2 = ((low3 >>> 12) << 10) | (((page >>> 9) & lastEntry) << 1);
    const low2 = words[at2]!;
    const at1 = ((low2 >>> 12) << 10) | ((page & lastEntry) << 1);
    const low1 = words[at1]!;
    const others = (low4 ^ plainSecondEntry) | (low3 ^ plainSecondEntry) | (low2 ^ plainSecondEntry) | (low1 ^ plainSecondEntry);
    this.#unlike |= (others & plainSecondMask) | words[at4 | 1]! | words[at3 | 1]! | words[at2 | 1]! | words[at1 | 1]!;
    return low1 >>> 12;
  }

  #descend(format: PageTableFormat, root: number, iovaHigh: number, iovaLow: number, access: number): ScalableReason | typeof changed {
    let table = root;
    let granted: number = everything;
    for (let level = format.levels; ; level--) {
      const offset = indexAt(level, iovaHigh, iovaLow, 511) * 8;
      const refused = this.#locate(WalkStep.TABLE_READ, table, offset, level === format.levels);
      if (refused !== ScalableReason.NONE) return refused;
      const low = read64(this.#ram, this.#at, format.labels[level]!);
      const high = this.#ram.high;
      const seen = format.inspect(level, high, low);
      if (seen === 0) return ScalableReason.FIRST_STAGE_NOT_PRESENT;
      if ((seen & Entry.RESERVED) !== 0) return ScalableReason.FIRST_STAGE_RESERVED;
      if ((seen & Entry.SUPERVISOR) !== 0) return ScalableReason.SUPERVISOR_PAGE;
      granted &= seen;
      const isLeaf = (seen & Entry.LEAF) !== 0;
      if (isLeaf && (access & ~granted) !== 0) return ScalableReason.WRITE_DENIED;
      const marked = this.#mark(format, level, table, offset, low, isLeaf && (access & Access.WRITE) !== 0);
      if (marked !== ScalableReason.NONE) return marked;
      const next = format.frameOf(high, low);
      if (isLeaf) return this.#finish(next + pageWithin(level, iovaHigh, iovaLow), access, granted, low & format.dirtyBit);
      table = next;
    }
  }

  /** Sets the accessed bit of an entry in use, and the dirty bit of a leaf that is written. */
  #mark(format: PageTableFormat, level: number, table: number, offset: number, low: number, writes: boolean): ScalableReason | typeof changed {
    const wanted = low | format.accessedBit | (writes ? format.dirtyBit : 0);
    if (wanted === low || !this.#marks) return ScalableReason.NONE;
    const refused = this.#locate(WalkStep.TABLE_MARK, table, offset, level === format.levels);
    if (refused !== ScalableReason.NONE) return refused;
    return compareExchange(this.#ram, this.#at, low, wanted, format.labels[level]!) === low ? ScalableReason.NONE : changed;
  }

  /** The page itself. A write through a leaf that is not dirty yet, in either stage, has to come back to it: it is granted reads alone. */
  #finish(page: number, access: number, granted: number, dirty: number): ScalableReason {
    if (this.#throughSecond(WalkStep.PAGE, page, access) !== WalkFault.NONE) return scalableReasonOf(this.second, false, this.#requester!.secondLevels, access);
    const { second } = this;
    const isClean = this.#requester!.marksUse && (second.entryLow & this.#tables!.format.dirtyBit) === 0;
    const mayWrite = (access & Access.WRITE) !== 0 || (dirty !== 0 && !isClean);
    this.frame = second.frame;
    this.guestPage = page;
    this.permissions = granted & second.permissions & (mayWrite ? everything : Access.READ);
    return ScalableReason.NONE;
  }

  /** Where an entry of the first stage is in RAM: `#at`. */
  #locate(step: number, table: number, offset: number, isRoot: boolean): ScalableReason {
    const fault = this.#throughSecond(step, table, step === WalkStep.TABLE_MARK ? Access.WRITE : Access.READ);
    if (fault !== WalkFault.NONE) return this.#refusal(fault, isRoot);
    const frame = this.second.frame;
    if (frame >= this.#frameCount) return isRoot ? ScalableReason.FIRST_STAGE_ROOT_ACCESS : ScalableReason.FIRST_STAGE_ACCESS;
    this.#at = frame * pageBytes + offset;
    if (this.#kernel.history !== null) this.#tellDead();
    return ScalableReason.NONE;
  }

  /** Why the second stage does not let an entry of the first be reached. Errors of its own tables have the reasons that they have on the way to a page. */
  #refusal(fault: WalkFault, isRoot: boolean): ScalableReason {
    if (fault === WalkFault.RESERVED || fault === WalkFault.TABLE_ACCESS) return scalableReasonOf(this.second, false, this.#requester!.secondLevels, Access.READ);
    if (fault === WalkFault.BEYOND_WIDTH) return ScalableReason.TABLE_BEYOND_SECOND_STAGE;
    if (this.step === WalkStep.TABLE_MARK) return ScalableReason.TABLE_NOT_WRITABLE;
    return isRoot ? ScalableReason.ROOT_NOT_READABLE : ScalableReason.TABLE_NOT_READABLE;
  }

  #throughSecond(step: number, page: number, access: number): WalkFault {
    this.step = step;
    this.accessed = page;
    const fault = this.#tables!.walk(this.#requester!.secondRoot, highOf(page), lowOf(page), access, this.second);
    if (this.#kernel.history !== null) tellDeadTable(this.#kernel, this.#frames, this.#sourceId, this.second);
    return fault;
  }

  /** For oracles: what is read as a table of the guest is the guest's no more. */
  #tellDead(): void {
    const frame = frameOf(this.#at);
    const owner = this.#frames.ownerOf(frame);
    if (owner < Owner.firstProcess) deadTableRead.emit(this.#kernel, this.#sourceId, frame, owner);
  }
}
