/**
 * C8: a function that is blocked for its reset is asked for nothing. It would not answer, and whoever waits for it would wait until the queue gives up
 * (`pci_dev_reset_iommu_prepare`; reset-vs-attach).
 *
 * Of a function that was pulled out 7.2 promises less: an unmap asks it, and stops only after its time-out. That is no breach here.
 */
import { InvalidationQueued } from '../../drivers/events.ts';
import * as riscv from '../../hardware/riscv/commands.ts';
import { UnitKind } from '../../hardware/unit.ts';
import { Bits, Descriptor } from '../../hardware/vtd/descriptors.ts';
import { ResetEnds, ResetPrepared } from '../../kernel/events.ts';
import { breach, invariant } from '../invariant.ts';
import { addressText } from '../records.ts';

/** Whose device TLB a command invalidates, as its first two words say; -1 for another command. */
function askedBy(kind: UnitKind | undefined, first: number, second: number): number {
  if (kind === UnitKind.RISCV) return riscv.isAtsInvalidation(first) ? riscv.requesterOf(second) : -1;
  if (kind !== UnitKind.VTD) return -1;
  const type = first & Bits.typeMask;
  if (type === Descriptor.DEVICE_TLB) return second & 0xffff;
  return type === Descriptor.PASID_DEVICE_TLB ? first >>> 16 : -1;
}

export default invariant<Set<number>>({
  id: 'C8',
  claim: 'while a function is blocked for its reset, nobody invalidates its device TLB',
  events: [ResetPrepared, ResetEnds, InvalidationQueued],
  start: () => new Set(),
  step(blocked, event, view) {
    if (event.kind === ResetPrepared.kind) blocked.add(ResetPrepared.get.function(event));
    else if (event.kind === ResetEnds.kind) blocked.delete(ResetEnds.get.function(event));
    else {
      const kind = view.kindOfUnit(InvalidationQueued.get.unit(event));
      const asked = askedBy(kind, InvalidationQueued.get.first(event), InvalidationQueued.get.second(event));
      if (blocked.has(asked)) return breach(`the device TLB of function ${addressText(asked)} is invalidated while it is being reset`);
    }
    return null;
  },
});
