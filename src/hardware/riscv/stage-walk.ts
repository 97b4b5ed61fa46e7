/**
 * The walk of a RISC-V IOMMU through the page tables of one stage, as one thread sees it; two of them make the two-dimensional walk
 * (SEMANTICS c.10): the tables of the first stage are guest memory, and each access to them is translated by the second one.
 *
 * A walk is plain loads over (high, low) pairs; each entry is a point, and each exchange of accessed and dirty bits. Nothing is
 * cached here.
 */
import { compareExchange, read64 } from '#hostmem/atomics';
import { Pte } from '#hostmem/formats/riscv';
import { beyondWidth, highOf, indexAt, lowOf, pageNumber, pageWithin, rootEntries } from '#hostmem/iova';
import { pageBytes, type Frame, type Memory } from '#hostmem/memory';
import { Entry, type PageTableFormat } from '#hostmem/page-table-format';
import { Want } from './cause.ts';

/** How a walk through one stage ended. */
export const StageFault = {
  NONE: 0,
  /** No translation there, or not for this request. */
  PAGE: 1,
  /** A table is outside memory. */
  ACCESS: 2,
  /** The second stage refused an access to a table of this one: its own `fault` says why. */
  IMPLICIT: 3,
} as const;
export type StageFault = (typeof StageFault)[keyof typeof StageFault];

/** As whom a request asks: supervisors may use pages of users where SUM says so, but never execute them. */
export const Privilege = { USER: 0, SUPERVISOR: 1, SUPERVISOR_AND_USER: 2 } as const;
export type Privilege = (typeof Privilege)[keyof typeof Privilege];

/** What an entry that stands for "no tables" grants. */
const everything = Pte.READ | Pte.WRITE | Pte.EXECUTE | Pte.ACCESSED | Pte.DIRTY;

export class StageWalk {
  fault: StageFault = StageFault.NONE;
  /** The frame, of the host or the guest, that the page of the last walk is at. */
  frame = 0 as Frame;
  /** How many pages the leaf covers; 0 when there are no tables. */
  pages = 0;
  /** The leaf, and whether it or a table on the way is global. */
  entryLow = 0;
  entryHigh = 0;
  global = false;
  /** The page that the last walk was for, and whether an access to a table that the second stage refused would have written. */
  page = 0;
  implicitWrite = false;
  readonly #ram: Memory;
  readonly #frameCount: number;
  readonly #second: StageWalk | null;
  #format: PageTableFormat | null = null;
  #root = 0 as Frame;
  #rootMask = 0;
  #beyond = 0;
  #marks = false;
  /** Byte address of the last entry read, and where it is for this stage. */
  #at = 0;
  #table = 0;
  #offset = 0;
  #level = 0;

  /** `second` translates the accesses to the tables of a first stage; null for a second stage. */
  constructor(ram: Memory, second: StageWalk | null) {
    this.#ram = ram;
    this.#frameCount = ram.sizeBytes / pageBytes;
    this.#second = second;
  }

  /** The tables of the walks to come: null for none. `marks`: accessed and dirty bits are set, and not demanded. */
  use(format: PageTableFormat | null, root: Frame, marks: boolean): void {
    this.#format = format;
    this.#root = root;
    this.#marks = marks;
    if (format === null) return;
    this.#rootMask = rootEntries(format.levels, format.inputBits + (format.signExtended ? 1 : 0)) - 1;
    this.#beyond = beyondWidth(format.inputBits);
  }

  /**
   * Translates one page. Without `insists`, a permission that the leaf does not grant is no fault (ATS): the entry says what it grants.
   */
  walk(high: number, low: number, wanted: number, privilege: Privilege, insists: boolean): StageFault {
    this.page = pageNumber(high, low);
    this.global = false;
    this.fault = this.#format === null ? this.#pass() : this.#translate(this.#format, high, low, wanted, privilege, insists);
    return this.fault;
  }

  #pass(): StageFault {
    this.frame = this.page as Frame;
    this.pages = 0;
    this.entryLow = everything;
    this.entryHigh = 0;
    return StageFault.NONE;
  }

  #translate(format: PageTableFormat, high: number, low: number, wanted: number, privilege: Privilege, insists: boolean): StageFault {
    const above = high & this.#beyond;
    if (above !== 0 && !(format.signExtended && above === this.#beyond)) return StageFault.PAGE;
    for (;;) {
      const fault = this.#descend(format, high, low);
      if (fault !== StageFault.NONE) return fault;
      if (insists && (wanted & ~(this.entryLow >>> 1)) !== 0) return StageFault.PAGE;
      if (!admits(this.entryLow, wanted, privilege)) return StageFault.PAGE;
      const marks = this.#marksMissing(wanted);
      if (marks === 0) return StageFault.NONE;
      if (!this.#marks) return StageFault.PAGE;
      const refused = this.#locate(this.#table, this.#offset, true);
      if (refused !== StageFault.NONE) return refused;
      // An entry that was changed since it was read is walked to anew.
      if (compareExchange(this.#ram, this.#at, this.entryLow, this.entryLow | marks, format.labels[this.#level]!) === this.entryLow) {
        this.entryLow |= marks;
        return StageFault.NONE;
      }
    }
  }

  #descend(format: PageTableFormat, high: number, low: number): StageFault {
    const ram = this.#ram;
    let table: number = this.#root;
    let mask = this.#rootMask;
    for (let level = format.levels; ; level--) {
      const offset = indexAt(level, high, low, mask) * 8;
      mask = 511;
      const fault = this.#locate(table + (offset >>> 12), offset & 4095, false);
      if (fault !== StageFault.NONE) return fault;
      const entryLow = read64(ram, this.#at, format.labels[level]!);
      const seen = format.inspect(level, ram.high, entryLow);
      if (seen === 0 || (seen & Entry.RESERVED) !== 0) return StageFault.PAGE;
      if ((entryLow & Pte.GLOBAL) !== 0) this.global = true;
      table = format.frameOf(ram.high, entryLow);
      if ((seen & Entry.LEAF) === 0) continue;
      this.entryLow = entryLow;
      this.entryHigh = ram.high;
      this.#level = level;
      const is64K = (seen & Entry.LEAF64K) !== 0;
      this.pages = is64K ? 16 : 512 ** (level - 1);
      this.frame = (is64K ? table - 8 + ((low >>> 12) & 15) : table + pageWithin(level, high, low)) as Frame;
      return StageFault.NONE;
    }
  }

  /** Where an entry of this stage's tables is in memory. */
  #locate(table: number, offset: number, writes: boolean): StageFault {
    const second = this.#second;
    let frame = table;
    this.#table = table;
    this.#offset = offset;
    if (second !== null) {
      this.implicitWrite = writes;
      if (second.walk(highOf(table), lowOf(table) | offset, writes ? Want.WRITE : Want.READ, Privilege.USER, true) !== StageFault.NONE) return StageFault.IMPLICIT;
      frame = second.frame;
    }
    if (frame >= this.#frameCount) return StageFault.ACCESS;
    this.#at = frame * pageBytes + offset;
    return StageFault.NONE;
  }

  /** Accessed and dirty bits that the leaf lacks for a use of it. */
  #marksMissing(wanted: number): number {
    const writes = (wanted & Want.WRITE) !== 0 && (this.entryLow & Pte.WRITE) !== 0;
    return (Pte.ACCESSED | (writes ? Pte.DIRTY : 0)) & ~this.entryLow;
  }
}

function admits(entryLow: number, wanted: number, privilege: Privilege): boolean {
  if ((entryLow & Pte.USER) === 0) return privilege !== Privilege.USER;
  return privilege === Privilege.USER || (privilege === Privilege.SUPERVISOR_AND_USER && (wanted & Want.EXECUTE) === 0);
}
