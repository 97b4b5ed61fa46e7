/**
 * Draining: which transactions were in flight when an invalidation was carried out, and whether they have all ended.
 *
 * Pairs with `DmaEngine`, which publishes its in-flight slot by a sequentially consistent store before it reads the first
 * translation. A transaction whose slot was still idle when `mark` looked reads what software and the invalidation left.
 */
import { peek, poke, silent } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { InFlight, PciFunction } from './function.ts';
import { IommuUnit } from './unit.ts';

export class Drain {
  readonly #kernel: Memory;
  readonly #unit: Ref<'IommuUnit'>;

  constructor(kernel: Memory, unit: Ref<'IommuUnit'>) {
    this.#kernel = kernel;
    this.#unit = unit;
  }

  /** Remembers the transactions in flight, reads or writes or both, beside those remembered before. */
  mark(reads: boolean, writes: boolean): void {
    const kernel = this.#kernel;
    for (let at = IommuUnit.firstFunction.peek(kernel, this.#unit); at !== 0; at = PciFunction.nextOfUnit.peek(kernel, at)) markInFlight(kernel, at, reads, writes);
  }

  /** Whether every transaction that `mark` remembered has ended. No point, and writes nothing. */
  done(): boolean {
    const kernel = this.#kernel;
    for (let at = IommuUnit.firstFunction.peek(kernel, this.#unit); at !== 0; at = PciFunction.nextOfUnit.peek(kernel, at)) {
      const seen = peek(kernel, PciFunction.drainSeen.address(kernel, at));
      if (seen !== 0 && seen === silent.load(kernel, PciFunction.inFlight.address(kernel, at))) return false;
    }
    return true;
  }
}

/** Remembers the transaction that one function has in flight. */
export function markInFlight(kernel: Memory, pciFunction: Ref<'PciFunction'>, reads: boolean, writes: boolean): void {
  const slot = silent.load(kernel, PciFunction.inFlight.address(kernel, pciFunction));
  if ((slot & InFlight.BUSY) === 0) return;
  if ((slot & InFlight.WRITE) !== 0 ? writes : reads) poke(kernel, PciFunction.drainSeen.address(kernel, pciFunction), slot);
}
