/**
 * Draining: which transactions were in flight when an invalidation was carried out, and whether they have all ended.
 *
 * Pairs with `DmaEngine`, which publishes its in-flight slot by a sequentially consistent store before it reads the first
 * translation. A transaction whose slot was still idle when `mark` looked reads what software and the invalidation left: before `mark` comes a
 * fence, behind the last entry that was cleared.
 */
import { load, peek, poke, silent } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { InFlight, PciFunction } from './function.ts';
import type { UnitFunctions } from './unit-functions.ts';

export class Drain {
  readonly #kernel: Memory;
  readonly #functions: UnitFunctions;

  constructor(kernel: Memory, functions: UnitFunctions) {
    this.#kernel = kernel;
    this.#functions = functions;
  }

  /** Remembers the transactions in flight, reads or writes or both, beside those remembered before. */
  mark(reads: boolean, writes: boolean): void {
    const { inFlightAt, drainSeenAt } = this.#functions;
    for (let i = 0; i < inFlightAt.length; i++) markSlot(this.#kernel, inFlightAt[i]!, drainSeenAt[i]!, reads, writes);
  }

  /** Whether every transaction that `mark` remembered has ended. No point, and writes nothing. */
  done(): boolean {
    const { inFlightAt, drainSeenAt } = this.#functions;
    for (let i = 0; i < drainSeenAt.length; i++) {
      const seen = peek(this.#kernel, drainSeenAt[i]!);
      if (seen !== 0 && seen === silent.load(this.#kernel, inFlightAt[i]!)) return false;
    }
    return true;
  }
}

/** Remembers the transaction that one function has in flight. Within an engine's step: before or after a transaction begins is another order. */
export function markInFlight(kernel: Memory, pciFunction: Ref<'PciFunction'>, reads: boolean, writes: boolean): void {
  markSlot(kernel, PciFunction.inFlight.address(kernel, pciFunction), PciFunction.drainSeen.address(kernel, pciFunction), reads, writes);
}

function markSlot(kernel: Memory, inFlightAt: number, drainSeenAt: number, reads: boolean, writes: boolean): void {
  // The fence before `mark` makes of a plain read what a load is where schedules are explored.
  const slot = kernel.control === null ? silent.read(kernel, inFlightAt) : load(kernel, inFlightAt, PciFunction.inFlight.label);
  if ((slot & InFlight.BUSY) === 0) return;
  if ((slot & InFlight.WRITE) !== 0 ? writes : reads) poke(kernel, drainSeenAt, slot);
}
