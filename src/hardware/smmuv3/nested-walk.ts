/**
 * The walk of an SMMUv3 through both stages (SEMANTICS c.10), as one thread sees it: tables of stage 1 are guest memory, and stage 2 translates each
 * access to one, as it does at last the page. Neither stage's flags are hardware's here (HA and HD are 0). Each entry is a point; nothing is cached.
 */
import { read64 } from '#hostmem/atomics';
import { Owner, type Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { beyondWidth, highOf, indexAt, lowOf, pageWithin } from '#hostmem/iova';
import { pageBytes, type Frame, type Memory } from '#hostmem/memory';
import { Access, Entry, type PageTableFormat } from '#hostmem/page-table-format';
import { WalkFault, WalkResult, type PageWalker } from '#hostmem/page-walk';
import { tellDeadTable } from '../dead-table.ts';
import { deadTableRead } from '../events.ts';
import { EventClass, type Refusal } from './events.ts';

const everything = Access.READ | Access.WRITE;

export class NestedWalk {
  /** Of a walk that succeeded: the frame, the page of the guest that it is, and what both stages grant. */
  frame = 0 as Frame;
  guestPage = 0;
  permissions = 0;
  /** Of one that failed. */
  readonly refusal: Refusal = { stage2: false, class: EventClass.INPUT, ipaPage: 0 };
  readonly #second = new WalkResult();
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #frames: Frames;
  #tables: PageWalker | null = null;
  #root = 0 as Frame;
  #sourceId = 0;

  constructor(host: Host) {
    this.#kernel = host.kernel;
    this.#ram = host.ram;
    this.#frames = host.frames;
  }

  /** The stage 2 of the walks that follow. */
  onto(tables: PageWalker, root: Frame, sourceId: number): this {
    this.#tables = tables;
    this.#root = root;
    this.#sourceId = sourceId;
    return this;
  }

  /** Translates one page, through a stage 1 whose root is that page of the guest. */
  walk(first: PageTableFormat, root: number, iovaHigh: number, iovaLow: number, access: number): WalkFault {
    if ((iovaHigh & beyondWidth(first.inputBits)) !== 0) return this.#atStage1(EventClass.INPUT, WalkFault.BEYOND_WIDTH);
    let granted: number = everything;
    let table = root;
    for (let level = first.levels; ; level--) {
      const fault = this.throughSecond(EventClass.TABLE, table, Access.READ);
      if (fault !== WalkFault.NONE) return fault;
      if (this.frame >= this.#frames.count) return this.#atStage1(EventClass.TABLE, WalkFault.TABLE_ACCESS);
      const low = read64(this.#ram, this.frame * pageBytes + indexAt(level, iovaHigh, iovaLow, 511) * 8, first.labels[level]!);
      const high = this.#ram.high;
      const seen = first.inspect(level, high, low);
      if (seen === 0) return this.#atStage1(EventClass.INPUT, WalkFault.NOT_PRESENT);
      if ((seen & Entry.RESERVED) !== 0) return this.#atStage1(EventClass.INPUT, WalkFault.RESERVED);
      if ((seen & Entry.SUPERVISOR) !== 0) return this.#atStage1(EventClass.INPUT, WalkFault.SUPERVISOR);
      granted &= seen;
      table = first.frameOf(high, low);
      if ((seen & Entry.LEAF) === 0) continue;
      if ((low & first.accessedBit) === 0) return this.#atStage1(EventClass.INPUT, WalkFault.NOT_ACCESSED);
      // A leaf that could be made dirty is read-only to who may not do that.
      if ((low & first.cleanBit) !== 0) granted &= Access.READ;
      if ((access & ~granted) !== 0) return this.#atStage1(EventClass.INPUT, WalkFault.WRITE_DENIED);
      return this.#finish(table + pageWithin(level, iovaHigh, iovaLow), granted, access);
    }
  }

  /** A page of the guest, for an access of that kind: `frame`. */
  throughSecond(ofClass: EventClass, page: number, access: number): WalkFault {
    const second = this.#second;
    const fault = this.#tables!.walk(this.#root, highOf(page), lowOf(page), access, second);
    if (this.#kernel.history !== null) tellDeadTable(this.#kernel, this.#frames, this.#sourceId, second);
    this.frame = second.frame;
    this.#note(true, ofClass, page);
    if (fault === WalkFault.NONE && ofClass !== EventClass.INPUT && this.#kernel.history !== null) this.#tellDead();
    return fault;
  }

  #finish(page: number, granted: number, access: number): WalkFault {
    const fault = this.throughSecond(EventClass.INPUT, page, access);
    this.guestPage = page;
    this.permissions = granted & this.#second.permissions;
    return fault;
  }

  #atStage1(ofClass: EventClass, fault: WalkFault): WalkFault {
    this.#note(false, ofClass, 0);
    return fault;
  }

  #note(stage2: boolean, ofClass: EventClass, ipaPage: number): void {
    this.refusal.stage2 = stage2;
    this.refusal.class = ofClass;
    this.refusal.ipaPage = ipaPage;
  }

  /** For oracles: what is read as the guest's is the guest's no more. */
  #tellDead(): void {
    if (this.frame >= this.#frames.count) return;
    const owner = this.#frames.ownerOf(this.frame);
    if (owner < Owner.firstProcess) deadTableRead.emit(this.#kernel, this.#sourceId, this.frame, owner);
  }
}
