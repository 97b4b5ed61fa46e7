/**
 * How a request becomes a frame: the requester's entry, the IOTLB, then the page tables, and a fill.
 *
 * It knows of the kernel what the tables in RAM and the unit's registers say. What differs between vendors is behind
 * `RequesterTable`; the page-table walk is `hostmem/page-table.ts` over the vendor's format. In a controlled run the points
 * of a translation are: the requester's entry, the IOTLB, each page-table entry, the fill.
 */
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable, WalkResult, type WalkFault } from '#hostmem/page-table';
import { IotlbView } from './iotlb.ts';
import { IommuUnit } from './unit.ts';
import { VtdRegisters } from './vtd/registers.ts';
import { VtdRequesters } from './vtd/requester.ts';

/** What a unit's tables say of a requester. */
export interface Requester {
  /** Root of its page tables, and their levels. */
  root: Frame;
  levels: number;
  /** The tag of its translations in the caches. */
  domainId: number;
  /** Requests go to the address they name. */
  passThrough: boolean;
  /** Its faults are not recorded. */
  silent: boolean;
}

/** The part of a unit that differs between vendors. Fault reasons are the vendor's numbers; 0 is none. */
export interface RequesterTable {
  /** Width of an IOVA. */
  readonly addressBits: number;
  lookup(sourceId: number, result: Requester): number;
  beyondWidth(): number;
  reasonOf(fault: WalkFault, access: number): number;
  record(sourceId: number, iovaHigh: number, iovaLow: number, reason: number, access: number): void;
}

/** One thread's view of the translation hardware of one unit; `frame`, `root` and `hit` tell of the last translation. */
export class TranslationUnit {
  /** The frame that the page translates to; may lie outside RAM. */
  frame = 0 as Frame;
  /** Root table that the translation came from, 0 when none was used. */
  root = 0 as Frame;
  /** Whether it came from the IOTLB. */
  hit = false;
  readonly iotlb: IotlbView;
  readonly #requesters: RequesterTable;
  readonly #requester: Requester = { root: 0 as Frame, levels: 0, domainId: 0, passThrough: false, silent: false };
  /** By number of levels. */
  readonly #tables: readonly (PageTable | null)[];
  readonly #walk = new WalkResult();
  readonly #widthShift: number;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const { kernel, ram, frames } = host;
    const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
    VtdRegisters.check(kernel, registers);
    this.iotlb = new IotlbView(kernel, IommuUnit.iotlb.peek(kernel, unit));
    this.#requesters = new VtdRequesters(host, registers);
    this.#widthShift = this.#requesters.addressBits - 32;
    const table = (levels: 3 | 4 | 5): PageTable => new PageTable(ram, frames, vtdSecondStage(levels));
    this.#tables = [null, null, null, table(3), table(4), table(5)];
  }

  /**
   * Translates one page for a request. `access` is one `Access` bit; `epoch` is `iotlb.epoch()`, taken once the transaction was
   * published as in flight. Returns the vendor's fault reason, having recorded the fault.
   */
  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const reason = this.#translate(sourceId, iovaHigh, iovaLow, access, epoch);
    if (reason !== 0 && !this.#requester.silent) this.#requesters.record(sourceId, iovaHigh, iovaLow, reason, access);
    return reason;
  }

  #translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const requester = this.#requester;
    this.frame = 0 as Frame;
    this.root = 0 as Frame;
    this.hit = false;
    const refused = this.#requesters.lookup(sourceId, requester);
    if (refused !== 0) return refused;
    if (iovaHigh >>> this.#widthShift !== 0) return this.#requesters.beyondWidth();
    if (requester.passThrough) {
      this.frame = ((iovaHigh & 0xfffff) * 0x100000 + (iovaLow >>> 12)) as Frame;
      return 0;
    }
    const iotlb = this.iotlb;
    if (iotlb.lookup(requester.domainId, iovaHigh, iovaLow) && (iotlb.permissions & access) === access) {
      this.frame = iotlb.frame;
      this.root = iotlb.root;
      this.hit = true;
      return 0;
    }
    return this.#walkAndFill(requester, iovaHigh, iovaLow, access, epoch);
  }

  /** Also taken on a hit without permission: the tables, not a cached entry, say why a request is refused. */
  #walkAndFill(requester: Requester, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const walk = this.#walk;
    this.root = requester.root;
    const fault = this.#tables[requester.levels]!.walk(requester.root, iovaHigh, iovaLow, access, walk);
    if (fault !== 0) return this.#requesters.reasonOf(fault, access);
    this.frame = walk.frame;
    this.iotlb.fill(requester.domainId, iovaHigh, iovaLow, walk.frame, walk.permissions, requester.root, epoch);
    return 0;
  }
}
