/**
 * What a VT-d unit in scalable mode knows of a request: context entry, PASID directory and PASID entry (VT-d specification 6.2.2, 9.2
 * to 9.6; SEMANTICS c.6).
 *
 * A request without PASID uses RID_PASID. Context and directory entries are read anew for every request, PASID entries come from the
 * PASID cache when they are there. Entries are fetched in pieces of `fetchBits`, in ascending order, each one point: what a writer
 * changes in between is seen torn. Root entries are no point, as in legacy mode; nor are parts that the unit does not use.
 */
import { peek, read64 } from '#hostmem/atomics';
import { frameOf, type Frame, type Memory } from '#hostmem/memory';
import type { Requester } from '../translation-unit.ts';
import { ScalableReason } from './faults.ts';
import type { PasidCacheView, PasidEntryWords } from './pasid-cache.ts';
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
  readonly #properties: UnitProperties;
  /** Null for who only looks: nothing is taken from the cache and nothing put in it. */
  readonly #cache: PasidCacheView | null;
  readonly #entry: PasidEntryWords = { word0: 0, word1: 0, word2: 0 };
  /** What `#context` found. */
  #directory = 0 as Frame;
  #ridPasid = 0;
  #pasids = 0;
  #table = 0 as Frame;

  constructor(ram: Memory, properties: UnitProperties, cache: PasidCacheView | null) {
    this.#ram = ram;
    this.#properties = properties;
    this.#cache = cache;
  }

  lookup(rootTable: Frame, sourceId: number, pasid: number, result: Requester): ScalableReason {
    const refused = this.#context(rootTable, sourceId, pasid, result);
    if (refused !== 0) return refused;
    const used = pasid === noPasid ? this.#ridPasid : pasid;
    if (used >= this.#pasids) return pasid === noPasid ? ScalableReason.RID_PASID : ScalableReason.PASID_TOO_LARGE;
    result.pasid = used;
    const cache = this.#cache;
    if (cache !== null && cache.lookup(sourceId, used, this.#entry)) return this.#decode(result);
    const epoch = cache === null ? 0 : cache.epoch();
    const reason = this.#fetchTable(used, result) || this.#fetchEntry(used, result);
    if (reason === 0 && cache !== null) cache.fill(sourceId, used, this.#entry, epoch);
    return reason;
  }

  #context(rootTable: Frame, sourceId: number, pasid: number, result: Requester): ScalableReason {
    const ram = this.#ram;
    const rootAt = entry.rootHalfAt(rootTable, sourceId);
    if (rootAt >= ram.sizeBytes) return ScalableReason.ROOT_ACCESS;
    const root = peek(ram, rootAt);
    if ((root & entry.present) === 0) return ScalableReason.ROOT_NOT_PRESENT;
    if ((root & entry.reservedInRoot) !== 0) return ScalableReason.ROOT_RESERVED;
    const at = entry.contextEntryAt(frameOf(root), sourceId);
    if (at >= ram.sizeBytes) return ScalableReason.CONTEXT_ACCESS;
    const word0 = read64(ram, at, entry.contextLabels[0]);
    result.silent = (word0 & entry.faultsDisabled) !== 0;
    if ((word0 & entry.present) === 0) return ScalableReason.CONTEXT_NOT_PRESENT;
    const word1 = this.#properties.fetchBits === 64 ? read64(ram, at + 8, entry.contextLabels[1]) : peek(ram, at + 8);
    if ((word0 & entry.reservedInContext0) !== 0 || (word1 & entry.reservedInContext1) !== 0) return ScalableReason.CONTEXT_RESERVED;
    if (pasid !== noPasid && (word0 & entry.pasidsEnabled) === 0) return ScalableReason.PASIDS_DISABLED;
    this.#directory = frameOf(word0);
    this.#ridPasid = word1 & entry.ridPasidMask;
    this.#pasids = entry.pasidsOf(word0);
    return ScalableReason.NONE;
  }

  #fetchTable(pasid: number, result: Requester): ScalableReason {
    const at = entry.directoryEntryAt(this.#directory, pasid);
    if (at >= this.#ram.sizeBytes) return ScalableReason.DIRECTORY_ACCESS;
    const word = read64(this.#ram, at, entry.directoryLabel);
    if ((word & entry.faultsDisabled) !== 0) result.silent = true;
    if ((word & entry.present) === 0) return ScalableReason.DIRECTORY_NOT_PRESENT;
    if ((word & entry.reservedInDirectory) !== 0) return ScalableReason.DIRECTORY_RESERVED;
    this.#table = frameOf(word);
    return ScalableReason.NONE;
  }

  #fetchEntry(pasid: number, result: Requester): ScalableReason {
    const ram = this.#ram;
    const words = this.#entry;
    const { fetchBits } = this.#properties;
    const at = entry.pasidEntryAt(this.#table, pasid);
    if (at >= ram.sizeBytes) return ScalableReason.PASID_ACCESS;
    words.word0 = read64(ram, at, entry.pasidLabels[0]);
    if ((words.word0 & entry.present) === 0) {
      if ((words.word0 & entry.faultsDisabled) !== 0) result.silent = true;
      return ScalableReason.PASID_NOT_PRESENT;
    }
    words.word1 = fetchBits === 64 ? read64(ram, at + 8, entry.pasidLabels[1]) : peek(ram, at + 8);
    const usesWord2 = entry.pagingTypeOf(words.word0) === entry.PagingType.FIRST_STAGE;
    words.word2 = !usesWord2 ? 0 : fetchBits <= 128 ? read64(ram, at + 16, entry.pasidLabels[2]) : peek(ram, at + 16);
    return this.#decode(result);
  }

  #decode(result: Requester): ScalableReason {
    const { word0, word1, word2 } = this.#entry;
    if ((word0 & entry.faultsDisabled) !== 0) result.silent = true;
    if ((word0 & entry.reservedInPasid0) !== 0 || (word1 & entry.reservedInPasid1) !== 0 || (word2 & entry.reservedInPasid2) !== 0)
      return ScalableReason.PASID_RESERVED;
    const type = entry.pagingTypeOf(word0);
    result.domainId = entry.domainIdOf(word1);
    result.firstStage = type === entry.PagingType.FIRST_STAGE;
    result.passThrough = type === entry.PagingType.PASS_THROUGH;
    result.levels = result.firstStage ? entry.firstStageLevelsOf(word2) : entry.levelsOf(word0);
    result.root = frameOf(result.firstStage ? word2 : word0);
    result.marksUse = result.firstStage || entry.marksUse(word0);
    return this.#usable(type, result.levels) ? ScalableReason.NONE : ScalableReason.PASID_INVALID;
  }

  /** Whether the unit has that paging type in that many levels. Nesting is not modelled, so no unit has it. */
  #usable(type: number, levels: number): boolean {
    const { capabilityLow, capabilityHigh, extendedLow, extendedHigh } = this.#properties;
    if (type === entry.PagingType.PASS_THROUGH) return registers.supportsPassThrough(extendedLow);
    if (type === entry.PagingType.SECOND_STAGE) return registers.supportsSecondStage(extendedHigh) && registers.supportsLevels(capabilityLow, levels);
    if (type !== entry.PagingType.FIRST_STAGE || !registers.supportsFirstStage(extendedHigh)) return false;
    return levels === 4 || (levels === 5 && registers.supportsFirstStage5(capabilityHigh));
  }
}
