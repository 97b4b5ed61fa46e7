/**
 * Where the words of the functions behind a unit are that every invalidation looks at: byte addresses in kernel memory, found once. A queue goes
 * through them several times a wait, and a unit may have a hundred functions.
 */
import { silent } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { Atc } from './atc.ts';
import { PciFunction } from './function.ts';
import { IommuUnit } from './unit.ts';

export class UnitFunctions {
  readonly #kernel: Memory;
  readonly #unit: Ref<'IommuUnit'>;
  /** The latest function added: what is found is true as long as it is that. */
  #first: Ref<'PciFunction'> = NULL;
  #inFlightAt: number[] = [];
  #drainSeenAt: number[] = [];
  #pendingAt: number[] = [];

  constructor(kernel: Memory, unit: Ref<'IommuUnit'>) {
    this.#kernel = kernel;
    this.#unit = unit;
  }

  /** Of each function, `PciFunction.inFlight`. */
  get inFlightAt(): readonly number[] {
    this.#look();
    return this.#inFlightAt;
  }

  /** Of each function, in the same order, `PciFunction.drainSeen`. */
  get drainSeenAt(): readonly number[] {
    this.#look();
    return this.#drainSeenAt;
  }

  /** Whether a function has an invalidation request that it has not taken yet. */
  anyPending(): boolean {
    this.#look();
    for (const at of this.#pendingAt) if (silent.load(this.#kernel, at) !== 0) return true;
    return false;
  }

  #look(): void {
    const first = IommuUnit.firstFunction.peek(this.#kernel, this.#unit);
    if (first !== this.#first) this.#find(first);
  }

  #find(first: Ref<'PciFunction'>): void {
    const kernel = this.#kernel;
    this.#first = first;
    this.#inFlightAt = [];
    this.#drainSeenAt = [];
    this.#pendingAt = [];
    for (let at = first; at !== NULL; at = PciFunction.nextOfUnit.peek(kernel, at)) {
      this.#inFlightAt.push(PciFunction.inFlight.address(kernel, at));
      this.#drainSeenAt.push(PciFunction.drainSeen.address(kernel, at));
      const atc = PciFunction.atc.peek(kernel, at);
      if (atc !== NULL) this.#pendingAt.push(Atc.pending.address(kernel, atc));
    }
  }
}
