/** The thread of the interrupt of a unit's event queue (`arm_smmu_evtq_thread`): what it reports of guests' devices goes to the queues of their vIOMMUs. */
import type { Ref } from '#hostmem/object';
import { errnoOf } from './errno.ts';
import { reportEvent } from './event-queue.ts';
import type { Kernel } from './kernel.ts';

/** Of the unit before a function. What no queue listens to is dropped. */
export function handOnGuestEvents(kernel: Kernel, pciFunction: Ref<'PciFunction'>): void {
  const { driver } = kernel;
  for (const { viommu, type, words } of driver.beginGuestEvents!(pciFunction)) errnoOf(() => reportEvent(kernel, viommu as Ref<'Viommu'>, type, words));
  driver.endGuestEvents!(pciFunction);
}
