/**
 * What a thread knows of the requester that it looked up last, as if it had a cache of one entry before those of the unit: as long as no
 * invalidation has cleared anything there, and the registers that every request reads are the same, its next request finds the same. Free runs
 * alone; in a controlled run every look-up is to be seen.
 */
import type { Memory } from '#hostmem/memory';
import type { Requester } from '../translation-unit.ts';
import type { EntryCaches } from './entry-caches.ts';

/** Word indices of the registers that every request reads. */
export interface RequestRegisters {
  readonly globalStatus: number;
  readonly rootTable: number;
}

export class LastRequester {
  readonly #kernel: Memory;
  readonly #caches: EntryCaches;
  readonly #statusAt: number;
  readonly #rootTableAt: number;
  readonly #contextsAt: number;
  readonly #pasidsAt: number;
  /** Where the answer is; null as long as there is none. */
  #result: Requester | null = null;
  #sourceId = 0;
  #pasid = 0;
  #status = 0;
  #rootTable = 0;
  #contexts = 0;
  #pasids = 0;

  constructor(kernel: Memory, { globalStatus, rootTable }: RequestRegisters, caches: EntryCaches) {
    this.#kernel = kernel;
    this.#caches = caches;
    this.#statusAt = globalStatus;
    this.#rootTableAt = rootTable;
    this.#contextsAt = caches.contexts.generationAt;
    this.#pasidsAt = caches.pasids.generationAt;
  }

  /** Whether `result` still has the answer for such a request. */
  is(sourceId: number, pasid: number, result: Requester): boolean {
    const { words, control } = this.#kernel;
    if (this.#result !== result || this.#sourceId !== sourceId || this.#pasid !== pasid || control !== null) return false;
    return words[this.#contextsAt] === this.#contexts && words[this.#pasidsAt] === this.#pasids && words[this.#statusAt] === this.#status && words[this.#rootTableAt] === this.#rootTable;
  }

  /** Before a look-up whose answer may be kept. */
  begin(): void {
    const { words } = this.#kernel;
    this.#result = null;
    this.#contexts = words[this.#contextsAt]!;
    this.#pasids = words[this.#pasidsAt]!;
    this.#status = words[this.#statusAt]!;
    this.#rootTable = words[this.#rootTableAt]!;
  }

  /** Behind it, where it found an entry: only what the unit's own caches may keep is kept. */
  keep(sourceId: number, pasid: number, result: Requester, isScalable: boolean): void {
    const { contexts, pasids } = this.#caches;
    if (this.#kernel.control !== null || !contexts.on || (isScalable && !pasids.on)) return;
    this.#sourceId = sourceId;
    this.#pasid = pasid;
    this.#result = result;
  }
}
