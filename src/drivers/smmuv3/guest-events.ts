/**
 * What an SMMUv3 reports of a guest's stage 1, for the guest (the kernel's `arm_smmu_handle_event`, `arm_vmaster_report_event`): the record of the hardware, in which
 * the stream has the guest's number. What is wrong with stage 2 is the host's, and no guest is told.
 */
import { NULL, type Ref } from '#hostmem/object';
import { PciFunction } from '../../hardware/function.ts';
import { recordOf, SmmuEvent, takeRawRecords, withStream } from '../../hardware/smmuv3/events.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { IommuDevice, type GuestEvent } from '../driver.ts';
import type { Smmu, SmmuMember } from './smmu.ts';
import { SmmuUnitState } from './unit-state.ts';
import { SmmuViommu } from './viommu.ts';

/** IOMMU_VEVENTQ_TYPE_ARM_SMMUV3. */
export const smmuEventType = 1;
const forGuests: ReadonlySet<number> = new Set([
  SmmuEvent.C_BAD_STE, SmmuEvent.C_BAD_CD, SmmuEvent.F_TRANSLATION, SmmuEvent.F_ADDR_SIZE, SmmuEvent.F_ACCESS, SmmuEvent.F_PERMISSION,
]);

/** On return `guestsLock` is held. */
export function takeGuestEvents(smmu: Smmu, unit: SmmuMember): GuestEvent[] {
  const records = takeRawRecords(smmu, unit.registers);
  SmmuUnitState.guestsLock.acquire(smmu.kernel, unit.state);
  const events: GuestEvent[] = [];
  for (const words of records) {
    const { type, streamId, stage2 } = recordOf(words);
    const device = stage2 || !forGuests.has(type) ? NULL : deviceOf(smmu, unit, streamId);
    const guest = device === NULL ? NULL : (IommuDevice.guest.peek(smmu.kernel, device) as Ref<'SmmuViommu'>);
    if (guest === NULL) continue;
    const viommu = SmmuViommu.viommu.peek(smmu.kernel, guest);
    events.push({ viommu, type: smmuEventType, words: withStream(words, IommuDevice.guestStream.peek(smmu.kernel, device)) });
  }
  return events;
}

/** The device whose stream it is (`arm_smmu_find_master`). */
function deviceOf({ kernel }: Smmu, unit: SmmuMember, streamId: number): Ref<'IommuDevice'> {
  let at: Ref<'PciFunction'> = IommuUnit.firstFunction.peek(kernel, unit.ref);
  while (at !== NULL && PciFunction.sourceId.peek(kernel, at) !== streamId) at = PciFunction.nextOfUnit.peek(kernel, at);
  return at === NULL ? NULL : (PciFunction.driverData.peek(kernel, at) as Ref<'IommuDevice'>);
}
