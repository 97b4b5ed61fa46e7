/**
 * How a request becomes a frame: the requester's entry, the IOTLB, then the page tables (from the root, or from a table that the
 * paging-structure cache knows), and a fill.
 *
 * It knows of the kernel what the tables in RAM and the unit's registers say. What differs between vendors is behind
 * `RequesterTable`; the page-table walk is `hostmem/page-table.ts` over the vendor's format. In a controlled run the points
 * of a translation are: the requester's entry, the IOTLB, each page-table entry, the fill.
 */
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { frameOf, type Frame, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { PageWalker, WalkResult } from '#hostmem/page-walk';
import { tellDeadTable } from './dead-table.ts';
import { firstStageTag, IotlbView } from './iotlb.ts';
import { nestedName, withGuestPage } from './nested-line.ts';
import { mayCacheUntrusted } from './ownership.ts';
import type { Translator } from './translator.ts';
import { IommuUnit } from './unit.ts';
import { ContextCache, PasidCache } from './vtd/entry-caches.ts';
import { NestedWalk } from './vtd/nested-walk.ts';
import { VtdRegisters } from './vtd/registers.ts';
import { VtdRequesters } from './vtd/requester.ts';
import { noPasid } from './vtd/scalable-requester.ts';
import { WalkCache } from './walk-cache.ts';

/** What a unit's tables say of a requester. */
export interface Requester {
  /** Root of its page tables, and their levels. */
  root: Frame;
  levels: number;
  /** The tags of its translations in the caches: domain id, and the PASID that the request has or stands for. */
  domainId: number;
  pasid: number;
  /** Whether the tables are of the first stage. */
  firstStage: boolean;
  /** Where they are guest memory: root and levels of the second stage, through which they and what they map are reached; else 0. */
  secondRoot: Frame;
  secondLevels: number;
  /** Whether accessed and dirty bits are set in the tables; of two stages, in those of the second (in those of the first they always are). */
  marksUse: boolean;
  /** Requests go to the address they name. */
  passThrough: boolean;
  /** It may make translation requests, and requests with addresses that it was given on those (ATS). */
  deviceTlb: boolean;
  /** Its faults are not recorded. */
  silent: boolean;
}

/** A requester of which nothing is known yet. */
export function noRequester(): Requester {
  return {
    root: 0 as Frame, levels: 0, domainId: 0, pasid: 0, firstStage: false, secondRoot: 0 as Frame, secondLevels: 0,
    marksUse: false, passThrough: false, deviceTlb: false, silent: false,
  };
}

/** The part of a unit that differs between vendors. Fault reasons are the vendor's numbers; 0 is none. */
export interface RequesterTable {
  /** Width of an IOVA, but of the first stage. */
  readonly addressBits: number;
  /** `pasid` is `noPasid` for a request that carries none. */
  lookup(sourceId: number, pasid: number, result: Requester): number;
  /** Why ATS is refused to the requester of the last look-up. */
  readonly deviceTlbForbidden: number;
  /** Of the requester of the last look-up, as `reasonOf`. */
  beyondWidth(requester: Requester): number;
  reasonOf(requester: Requester, walk: WalkResult, access: number): number;
  /** A reason of a walk through both stages, in the numbers of this unit. */
  nestedReason(reason: number, access: number): number;
  record(sourceId: number, pasid: number, iovaHigh: number, iovaLow: number, reason: number, access: number): void;
}

/** One thread's view of the translation hardware of one unit; `frame`, `root` and `hit` tell of the last translation. */
export class TranslationUnit implements Translator {
  /** The frame that the page translates to; may lie outside RAM. */
  frame = 0 as Frame;
  /** `Access` bits that the translation grants; of one through both stages with the guest's page (`nested-line.ts`). */
  permissions = 0;
  /** Root table that the translation came from, 0 when none was used; of two stages, the name of both (`nested-line.ts`). */
  root = 0 as Frame;
  /** Whether it came from the IOTLB. */
  hit = false;
  readonly iotlb: IotlbView;
  readonly #kernel: Memory;
  readonly #frames: Frames;
  readonly #walkCache: WalkCache;
  readonly #requesters: RequesterTable;
  readonly #requester: Requester = noRequester();
  /** By number of levels: second stage, second stage that marks use, first stage (which always does). */
  readonly #second: readonly (PageWalker | null)[];
  readonly #marking: readonly (PageWalker | null)[];
  readonly #first: readonly (PageWalker | null)[];
  readonly #walk = new WalkResult();
  /** Through both stages; the fields of the last one say where the second stage refused. */
  readonly nested: NestedWalk;
  readonly #widthShift: number;
  /** On a host with a TSM: pages that are private are not cached for requests with T = 0. */
  readonly #owned: Frames | null;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const { kernel, ram, frames } = host;
    const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
    VtdRegisters.check(kernel, registers);
    this.#kernel = kernel;
    this.#frames = frames;
    this.#owned = IommuUnit.trustedRoot.peek(kernel, unit) === NULL ? null : frames;
    this.iotlb = new IotlbView(kernel, IommuUnit.iotlb.peek(kernel, unit));
    this.#walkCache = new WalkCache(kernel, IommuUnit.walkCache.peek(kernel, unit), this.iotlb.at);
    const contexts = new ContextCache(kernel, IommuUnit.contextCache.peek(kernel, unit));
    this.#requesters = new VtdRequesters(host, registers, { contexts, pasids: new PasidCache(kernel, IommuUnit.pasidCache.peek(kernel, unit)) });
    this.#widthShift = this.#requesters.addressBits - 32;
    this.nested = new NestedWalk(host);
    const second = (levels: 3 | 4 | 5, marksUse: boolean): PageWalker => new PageWalker(ram, vtdSecondStage(levels), marksUse);
    const first = (levels: 4 | 5): PageWalker => new PageWalker(ram, vtdFirstStage(levels), true);
    this.#second = [null, null, null, second(3, false), second(4, false), second(5, false)];
    this.#marking = [null, null, null, second(3, true), second(4, true), second(5, true)];
    this.#first = [null, null, null, null, first(4), first(5)];
  }

  /**
   * Translates one page for a request. `access` is one `Access` bit; `epoch` is `iotlb.epoch()`, taken once the transaction was
   * published as in flight; `pasid` is what the request carries. Returns the vendor's fault reason, having recorded the fault.
   */
  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, pasid: number = noPasid): number {
    const reason = this.#translate(sourceId, iovaHigh, iovaLow, access, epoch, pasid, false);
    if (reason !== 0 && !this.#requester.silent) this.#requesters.record(sourceId, pasid, iovaHigh, iovaLow, reason, access);
    return reason;
  }

  /**
   * Answers a translation request (AT = 1): as `translate`, but a page that cannot be reached is an answer without permissions and no fault
   * is recorded of it. A requester that may not ask is refused with a fault.
   */
  request(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, pasid: number): number {
    const reason = this.#translate(sourceId, iovaHigh, iovaLow, access, epoch, pasid, true);
    if (reason === this.#requesters.deviceTlbForbidden) this.#requesters.record(sourceId, pasid, iovaHigh, iovaLow, reason, access);
    return reason;
  }

  /** Whether a request with an address that the function was told (AT = 2) may pass: no walk, no permission is looked at. 0, or the reason of the fault. */
  passTranslated(sourceId: number, hpaHigh: number, hpaLow: number, access: number, pasid: number): number {
    const requester = this.#requester;
    const refused = this.#requesters.lookup(sourceId, pasid, requester);
    const reason = refused !== 0 || requester.deviceTlb ? refused : this.#requesters.deviceTlbForbidden;
    if (reason !== 0 && !requester.silent) this.#requesters.record(sourceId, pasid, hpaHigh, hpaLow, reason, access);
    return reason;
  }

  #translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, pasid: number, isAts: boolean): number {
    const requester = this.#requester;
    this.frame = 0 as Frame;
    this.root = 0 as Frame;
    this.hit = false;
    const refused = this.#requesters.lookup(sourceId, pasid, requester);
    if (refused !== 0) return refused;
    if (isAts && !requester.deviceTlb) return this.#requesters.deviceTlbForbidden;
    if (iovaHigh >>> this.#widthShift !== 0 && !requester.firstStage) return this.#requesters.beyondWidth(requester);
    if (requester.passThrough) {
      this.permissions = Access.READ | Access.WRITE;
      this.frame = ((iovaHigh & 0xfffff) * 0x100000 + (iovaLow >>> 12)) as Frame;
      return 0;
    }
    const iotlb = this.iotlb;
    const tag = requester.firstStage ? requester.pasid | firstStageTag : requester.pasid;
    if (iotlb.lookup(requester.domainId, iovaHigh, iovaLow, tag) && (iotlb.permissions & access) === access) {
      this.frame = iotlb.frame;
      this.permissions = iotlb.permissions;
      this.root = iotlb.root;
      this.hit = true;
      return 0;
    }
    if (requester.secondRoot !== 0) return this.#walkBothAndFill(requester, sourceId, iovaHigh, iovaLow, access, epoch, tag);
    return this.#walkAndFill(requester, sourceId, iovaHigh, iovaLow, access, epoch, tag);
  }

  /** The paging-structure cache holds nothing of guests' tables, which is always allowed. */
  #walkBothAndFill(requester: Requester, sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, tag: number): number {
    const walk = this.nested;
    this.root = nestedName(requester.root, requester.secondRoot);
    const tables = (requester.marksUse ? this.#marking : this.#second)[requester.secondLevels]!;
    const reason = walk.walk(requester, tables, sourceId, iovaHigh, iovaLow, access);
    if (reason !== 0) return this.#requesters.nestedReason(reason, access);
    this.frame = walk.frame;
    this.permissions = withGuestPage(walk.permissions, walk.guestPage);
    this.iotlb.fill(requester.domainId, iovaHigh, iovaLow, walk.frame, this.permissions, this.root, epoch, tag);
    return 0;
  }

  /** Also taken on a hit without permission: the tables, not a cached entry, say why a request is refused. */
  #walkAndFill(requester: Requester, sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, tag: number): number {
    const walk = this.#walk;
    this.root = requester.root;
    const tables = (requester.firstStage ? this.#first : requester.marksUse ? this.#marking : this.#second)[requester.levels]!;
    const known = this.#walkCache;
    const isKnown = known.lookup(requester.domainId, iovaHigh, iovaLow, tag);
    const fault = isKnown
      ? tables.walkBelow(known.table, known.level, known.permissions, iovaHigh, iovaLow, access, walk)
      : tables.walk(requester.root, iovaHigh, iovaLow, access, walk);
    if (this.#kernel.history !== null) tellDeadTable(this.#kernel, this.#frames, sourceId, walk);
    if (fault !== 0) return this.#requesters.reasonOf(requester, walk, access);
    this.frame = walk.frame;
    // A write through a leaf that is not dirty yet has to come back to the leaf: it is cached without that permission.
    const clean = requester.marksUse && (walk.entryLow & tables.format.dirtyBit) === 0;
    const permissions = clean ? walk.permissions & ~Access.WRITE : walk.permissions;
    this.permissions = permissions;
    const mayCache = this.#owned === null || mayCacheUntrusted(this.#owned, walk.frame);
    if (mayCache) this.iotlb.fill(requester.domainId, iovaHigh, iovaLow, walk.frame, permissions, requester.root, epoch, tag);
    // What was found below a table that may itself be stale by now is not remembered: an invalidation might miss it.
    if (!isKnown) known.fill(requester.domainId, iovaHigh, iovaLow, tag, frameOf(walk.entryAt), walk.level, walk.permissionsAbove, epoch);
    return 0;
  }
}
