/** What the RISC-V driver keeps: of all units together, and of each (the kernel's `struct riscv_iommu_device`), reached through `IommuUnit.driverData`. */
import { mutex } from '#hostmem/locks';
import { object, ref, u32 } from '#hostmem/struct';

export const RiscvDriverState = object('RiscvDriverState', {
  blockedDomain: ref('IommuDomain'),
  identityDomain: ref('IommuDomain'),
  /** PSCIDs, which are the same on every unit; 0 is left to devices without tables. */
  pscids: ref('IdBitmap'),
});

export const RiscvUnitState = object('RiscvUnitState', {
  driver: ref('RiscvDriverState'),
  /** Frames, made when the unit is set up. */
  directory: u32,
  queue: u32,
  queueStatus: u32,
  /** Held while a device context is written. */
  contextLock: mutex,
  /** Leaf lock over the command queue's tail, see `command-submitter.ts`. */
  queueLock: u32,
});
