/** What the RISC-V driver keeps: of all units together, and of each (the kernel's `struct riscv_iommu_device`), reached through `IommuUnit.driverData`. */
import { lockLeaf, peek, unlockLeaf } from '#hostmem/atomics';
import { mutex } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, ref, u32, words } from '#hostmem/struct';

/** Address spaces have numbers below this; 0 is left to devices without tables. The specification has 20 bits for them. */
const pscidCount = 1 << 12;

export const RiscvDriverState = object('RiscvDriverState', {
  blockedDomain: ref('IommuDomain'),
  identityDomain: ref('IommuDomain'),
  /** Leaf lock over the bitmap of PSCIDs, which are the same on every unit. */
  pscidLock: u32,
  pscids: words(pscidCount / 32),
});

export const RiscvUnitState = object('RiscvUnitState', {
  driver: ref('RiscvDriverState'),
  /** Frames, made when the unit is set up. */
  directory: u32,
  queue: u32,
  queueStatus: u32,
  /** Held while a device context is written. */
  contextLock: mutex,
  /** Leaf lock over the command queue's tail, see `queue.ts`. */
  queueLock: u32,
});

/** Takes the lowest free PSCID, or 0 when none is left. No point. */
export function takePscid(kernel: Memory, state: Ref<'RiscvDriverState'>): number {
  const lock = RiscvDriverState.pscidLock.address(kernel, state);
  lockLeaf(kernel, lock);
  let pscid = 1;
  while (pscid < pscidCount && isTaken(kernel, state, pscid)) pscid++;
  if (pscid < pscidCount) flip(kernel, state, pscid);
  unlockLeaf(kernel, lock);
  return pscid % pscidCount;
}

export function returnPscid(kernel: Memory, state: Ref<'RiscvDriverState'>, pscid: number): void {
  const lock = RiscvDriverState.pscidLock.address(kernel, state);
  lockLeaf(kernel, lock);
  flip(kernel, state, pscid);
  unlockLeaf(kernel, lock);
}

function isTaken(kernel: Memory, state: Ref<'RiscvDriverState'>, pscid: number): boolean {
  return (peek(kernel, RiscvDriverState.pscids.elementAddress(kernel, state, pscid >>> 5)) & (1 << (pscid & 31))) !== 0;
}

function flip(kernel: Memory, state: Ref<'RiscvDriverState'>, pscid: number): void {
  const word = RiscvDriverState.pscids.get(kernel, state, pscid >>> 5);
  RiscvDriverState.pscids.set(kernel, state, pscid >>> 5, word ^ (1 << (pscid & 31)));
}
