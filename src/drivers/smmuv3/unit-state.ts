/** What the SMMUv3 driver keeps: of all units together, of each (the kernel's `struct arm_smmu_device`, reached through `IommuUnit.driverData`), and of each domain. */
import { mutex } from '#hostmem/locks';
import { object, ref, u32 } from '#hostmem/struct';

export const SmmuDriverState = object('SmmuDriverState', {
  blockedDomain: ref('IommuDomain'),
  identityDomain: ref('IommuDomain'),
  /** ASIDs and VMIDs, each the same on every unit; 0 is left to streams without tables of that stage. */
  asids: ref('IdBitmap'),
  vmids: ref('IdBitmap'),
});

export const SmmuUnitState = object('SmmuUnitState', {
  driver: ref('SmmuDriverState'),
  /** Frame of the status words of the command queue. */
  queueStatus: u32,
  /** Over which guest each device behind it is of, while that changes and while its events are handed on (`streams_mutex`). */
  guestsLock: mutex,
  /** Held while an entry or a descriptor is written. */
  entryLock: mutex,
  /** Leaf lock over the command queue's tail, see `command-submitter.ts`. */
  queueLock: u32,
});
