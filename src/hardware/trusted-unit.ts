/**
 * What the TSM, and nobody else, can tell the trusted side of the IOMMU: the table of contexts, and to drop what was cached of one.
 *
 * An invalidation is over when the transactions that its function had in flight have ended, as behind a unit's own queue (`drain.ts`).
 */
import { Op, silent, sleepWhile, Until } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { InFlight, PciFunction } from './function.ts';
import { Iotlb, invalidateLabel, IotlbView } from './iotlb.ts';
import { Tdi } from './tdisp.ts';
import { TrustedContext, TrustedRoot } from './trusted-context.ts';
import { IommuUnit } from './unit.ts';

/** How long a free run's waiter gives its core away for: the device does not wake it. */
const momentMs = 0.05;

export class TrustedUnit {
  readonly #kernel: Memory;
  readonly #iotlb: IotlbView;

  constructor(host: Host, root: Ref<'TrustedRoot'>) {
    this.#kernel = host.kernel;
    this.#iotlb = new IotlbView(host.kernel, TrustedRoot.iotlb.peek(host.kernel, root));
  }

  /** Drops what is cached of a function's trusted context, for both values of T, and waits for what the function has in flight. */
  invalidate(tdi: Ref<'Tdi'>): void {
    const kernel = this.#kernel;
    if (kernel.control !== null) kernel.control.point(Op.WRITE, kernel, this.#iotlb.at, invalidateLabel);
    this.#iotlb.invalidateDomain(TrustedContext.number.peek(kernel, Tdi.context.peek(kernel, tdi)));
    this.#drain(PciFunction.inFlight.address(kernel, Tdi.function.peek(kernel, tdi)));
  }

  #drain(slotAt: number): void {
    const kernel = this.#kernel;
    const seen = silent.load(kernel, slotAt);
    if ((seen & InFlight.BUSY) === 0) return;
    if (kernel.control !== null) kernel.control.pointWhen(Op.WAIT, kernel, slotAt, PciFunction.inFlight.label, -1, Until.DIFFERENT, seen);
    else while (silent.load(kernel, slotAt) === seen) sleepWhile(kernel, slotAt, seen, momentMs);
  }
}

/** What differs between vendors, or is not known of them (SEMANTICS f.2, f.3 X1, X2). */
export interface OwnershipRules {
  /** Whether ownership is looked up also for what is cached. */
  readonly checksHits: boolean;
  /** Whether a request with T = 1 may reach pages that are not private; it may unless this says no. */
  readonly reachesShared?: boolean;
}

/** A root for a host that gets a TSM, and all its units know of it. */
export function createTrustedRoot(kernel: Memory, units: readonly Ref<'IommuUnit'>[], { checksHits, reachesShared = true }: OwnershipRules): void {
  const root = TrustedRoot.create(kernel);
  const iotlb = Iotlb.create(kernel);
  Iotlb.on.poke(kernel, iotlb, 1);
  TrustedRoot.iotlb.poke(kernel, root, iotlb);
  TrustedRoot.checksHits.poke(kernel, root, checksHits ? 1 : 0);
  TrustedRoot.reachesShared.poke(kernel, root, reachesShared ? 1 : 0);
  for (const unit of units) IommuUnit.trustedRoot.poke(kernel, unit, root);
}

/** A device interface for a function, if its unit knows a trusted root: unlocked, bound to nobody, bus master on. */
export function createInterface(kernel: Memory, pciFunction: Ref<'PciFunction'>): void {
  const unit = PciFunction.unit.peek(kernel, pciFunction);
  const root = unit === NULL ? NULL : IommuUnit.trustedRoot.peek(kernel, unit);
  if (root === NULL) return;
  const number = TrustedRoot.contexts.peek(kernel, root) + 1;
  TrustedRoot.contexts.poke(kernel, root, number);
  const context = TrustedContext.create(kernel);
  TrustedContext.number.poke(kernel, context, number);
  const tdi = Tdi.create(kernel);
  Tdi.function.poke(kernel, tdi, pciFunction);
  Tdi.context.poke(kernel, tdi, context);
  Tdi.busMaster.poke(kernel, tdi, 1);
  Tdi.next.poke(kernel, tdi, TrustedRoot.firstTdi.peek(kernel, root));
  TrustedRoot.firstTdi.poke(kernel, root, tdi);
  PciFunction.tdi.poke(kernel, pciFunction, tdi);
}
