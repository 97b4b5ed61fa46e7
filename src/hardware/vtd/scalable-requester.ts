/**
 * What a VT-d unit in scalable mode knows of a request: context entry, PASID directory and PASID entry (VT-d specification 6.2.2, 9.2
 * to 9.6; SEMANTICS c.6).
 *
 * A request without PASID uses RID_PASID. Context and PASID entries come from their caches when they are there; a PASID entry that is not
 * is reached through its directory, which is read anew. Entries are fetched in pieces of `fetchBits`, in ascending order, each one point: what a writer
 * changes in between is seen torn. Root entries are no point, as in legacy mode; nor are parts that the unit does not use.
 */
import { peek, read64 } from '#hostmem/atomics';
import { Owner, type Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { frameOf, type Frame, type Memory } from '#hostmem/memory';
import { deadTableRead, entryFetched, TableKind } from '../events.ts';
import type { Requester } from '../translation-unit.ts';
import { ScalableReason } from './faults.ts';
import type { EntryCaches, EntryWords } from './entry-caches.ts';
import * as registers from './registers.ts';
import * as entry from './scalable-entry.ts';

/** In place of a PASID: the request carries none. */
export const noPasid = -1;

/** The capability words of a unit and how many bits of an entry it fetches at once. */
export interface UnitProperties {
  readonly capabilityLow: number;
  readonly capabilityHigh: number;
  readonly extendedLow: number;
  readonly extendedHigh: number;
  readonly fetchBits: number;
}

export class ScalableRequesters {
  readonly #ram: Memory;
  readonly #kernel: Memory;
  readonly #frames: Frames;
  readonly #properties: UnitProperties;
  /** Null for who only looks: nothing is taken from the cache and nothing put in it. */
  readonly #caches: EntryCaches | null;
  readonly #context: EntryWords = { word0: 0, word1: 0, word2: 0 };
  readonly #entry: EntryWords = { word0: 0, word1: 0, word2: 0 };
  /** What `#fetchTable` found. */
  #table = 0 as Frame;

  constructor(host: Host, properties: UnitProperties, caches: EntryCaches | null) {
    this.#ram = host.ram;
    this.#kernel = host.kernel;
    this.#frames = host.frames;
    this.#properties = properties;
    this.#caches = caches;
  }

  lookup(rootTable: Frame, sourceId: number, pasid: number, result: Requester): ScalableReason {
    const caches = this.#caches;
    // Before the context entry is looked at: what a stale one leads to must not outlive the invalidation that follows it.
    const epoch = caches === null ? 0 : caches.pasids.epoch();
    const context = this.#context;
    const refused = this.#findContext(rootTable, sourceId, result);
    if (refused !== 0) return refused;
    if (pasid !== noPasid && (context.word0 & entry.pasidsEnabled) === 0) return ScalableReason.PASIDS_DISABLED;
    result.deviceTlb = (context.word0 & entry.deviceTlbEnabled) !== 0;
    const used = pasid === noPasid ? context.word1 & entry.ridPasidMask : pasid;
    if (used >= entry.pasidsOf(context.word0)) return pasid === noPasid ? ScalableReason.RID_PASID : ScalableReason.PASID_TOO_LARGE;
    result.pasid = used;
    if (caches !== null && caches.pasids.lookup(sourceId, used, this.#entry)) return this.#decode(result);
    const reason = this.#fetchTable(sourceId, used, result) || this.#fetchEntry(sourceId, used, result);
    if (reason === 0 && caches !== null) caches.pasids.fill(sourceId, used, result.domainId, this.#entry, epoch);
    return reason;
  }

  /** The context entry, from its cache or read. */
  #findContext(rootTable: Frame, sourceId: number, result: Requester): ScalableReason {
    const context = this.#context;
    const contexts = this.#caches === null ? null : this.#caches.contexts;
    if (contexts !== null && contexts.lookup(sourceId, context)) {
      result.silent = (context.word0 & entry.faultsDisabled) !== 0;
      return ScalableReason.NONE;
    }
    const epoch = contexts === null ? 0 : contexts.epoch();
    const reason = this.#fetchContext(rootTable, sourceId, result);
    if (reason === ScalableReason.NONE && contexts !== null) contexts.fill(sourceId, 0, context, epoch);
    return reason;
  }

  #fetchContext(rootTable: Frame, sourceId: number, result: Requester): ScalableReason {
    const ram = this.#ram;
    const rootAt = entry.rootHalfAt(rootTable, sourceId);
    if (rootAt >= ram.sizeBytes) return ScalableReason.ROOT_ACCESS;
    const root = peek(ram, rootAt);
    if ((root & entry.present) === 0) return ScalableReason.ROOT_NOT_PRESENT;
    if ((root & entry.reservedInRoot) !== 0) return ScalableReason.ROOT_RESERVED;
    const at = entry.contextEntryAt(frameOf(root), sourceId);
    if (at >= ram.sizeBytes) return ScalableReason.CONTEXT_ACCESS;
    const context = this.#context;
    context.word0 = read64(ram, at, entry.contextLabels[0]);
    result.silent = (context.word0 & entry.faultsDisabled) !== 0;
    if ((context.word0 & entry.present) === 0) return ScalableReason.CONTEXT_NOT_PRESENT;
    context.word1 = this.#properties.fetchBits === 64 ? read64(ram, at + 8, entry.contextLabels[1]) : peek(ram, at + 8);
    entryFetched.emit(this.#kernel, TableKind.SCALABLE_CONTEXT, sourceId, 0, context.word0, context.word1);
    const isReserved = (context.word0 & entry.reservedInContext0) !== 0 || (context.word1 & entry.reservedInContext1) !== 0;
    return isReserved ? ScalableReason.CONTEXT_RESERVED : ScalableReason.NONE;
  }

  #fetchTable(sourceId: number, pasid: number, result: Requester): ScalableReason {
    const at = entry.directoryEntryAt(frameOf(this.#context.word0), pasid);
    if (at >= this.#ram.sizeBytes) return ScalableReason.DIRECTORY_ACCESS;
    const word = read64(this.#ram, at, entry.directoryLabel);
    this.#tellDead(sourceId, at);
    if ((word & entry.faultsDisabled) !== 0) result.silent = true;
    if ((word & entry.present) === 0) return ScalableReason.DIRECTORY_NOT_PRESENT;
    if ((word & entry.reservedInDirectory) !== 0) return ScalableReason.DIRECTORY_RESERVED;
    this.#table = frameOf(word);
    return ScalableReason.NONE;
  }

  #fetchEntry(sourceId: number, pasid: number, result: Requester): ScalableReason {
    const ram = this.#ram;
    const words = this.#entry;
    const { fetchBits } = this.#properties;
    const at = entry.pasidEntryAt(this.#table, pasid);
    if (at >= ram.sizeBytes) return ScalableReason.PASID_ACCESS;
    words.word0 = read64(ram, at, entry.pasidLabels[0]);
    this.#tellDead(sourceId, at);
    if ((words.word0 & entry.present) === 0) {
      if ((words.word0 & entry.faultsDisabled) !== 0) result.silent = true;
      return ScalableReason.PASID_NOT_PRESENT;
    }
    words.word1 = fetchBits === 64 ? read64(ram, at + 8, entry.pasidLabels[1]) : peek(ram, at + 8);
    const usesWord2 = entry.hasFirstStage(words.word0);
    words.word2 = !usesWord2 ? 0 : fetchBits <= 128 ? read64(ram, at + 16, entry.pasidLabels[2]) : peek(ram, at + 16);
    entryFetched.emit(this.#kernel, TableKind.PASID, sourceId, pasid, words.word0, words.word1, words.word2);
    return this.#decode(result);
  }

  /** For oracles: a table that was read is one no more. */
  #tellDead(sourceId: number, at: number): void {
    if (this.#kernel.history === null) return;
    const owner = this.#frames.ownerOf(frameOf(at));
    if (owner !== Owner.KERNEL) deadTableRead.emit(this.#kernel, sourceId, frameOf(at), owner);
  }

  #decode(result: Requester): ScalableReason {
    const { word0, word1, word2 } = this.#entry;
    if ((word0 & entry.faultsDisabled) !== 0) result.silent = true;
    if ((word0 & entry.reservedInPasid0) !== 0 || (word1 & entry.reservedInPasid1) !== 0 || (word2 & entry.reservedInPasid2) !== 0)
      return ScalableReason.PASID_RESERVED;
    const type = entry.pagingTypeOf(word0);
    result.domainId = entry.domainIdOf(word1);
    result.firstStage = entry.hasFirstStage(word0);
    result.passThrough = type === entry.PagingType.PASS_THROUGH;
    result.levels = result.firstStage ? entry.firstStageLevelsOf(word2) : entry.levelsOf(word0);
    result.root = frameOf(result.firstStage ? word2 : word0);
    result.marksUse = type === entry.PagingType.FIRST_STAGE || entry.marksUse(word0);
    const isNested = type === entry.PagingType.NESTED;
    result.secondLevels = isNested ? entry.levelsOf(word0) : 0;
    result.secondRoot = isNested ? frameOf(word0) : (0 as Frame);
    return this.#usable(type, result) ? ScalableReason.NONE : ScalableReason.PASID_INVALID;
  }

  /** Whether the unit has that paging type in that many levels. */
  #usable(type: number, { levels, secondLevels }: Requester): boolean {
    const { extendedLow, extendedHigh } = this.#properties;
    if (type === entry.PagingType.PASS_THROUGH) return registers.supportsPassThrough(extendedLow);
    if (type === entry.PagingType.SECOND_STAGE) return this.#hasSecondStage(levels);
    if (type === entry.PagingType.NESTED) return registers.supportsNesting(extendedLow) && this.#hasFirstStage(levels) && this.#hasSecondStage(secondLevels);
    return type === entry.PagingType.FIRST_STAGE && registers.supportsFirstStage(extendedHigh) && this.#hasFirstStage(levels);
  }

  #hasSecondStage(levels: number): boolean {
    return registers.supportsSecondStage(this.#properties.extendedHigh) && registers.supportsLevels(this.#properties.capabilityLow, levels);
  }

  #hasFirstStage(levels: number): boolean {
    return levels === 4 || (levels === 5 && registers.supportsFirstStage5(this.#properties.capabilityHigh));
  }
}
