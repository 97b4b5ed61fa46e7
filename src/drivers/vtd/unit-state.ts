/**
 * What the VT-d driver keeps of one unit (the kernel's `struct intel_iommu`), reached through `IommuUnit.driverData`.
 */
import { lockLeaf, peek, unlockLeaf } from '#hostmem/atomics';
import { mutex } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, ref, u32, words } from '#hostmem/struct';

/** Domain ids below this are never handed out: 0 is unusable, 1 tags pass-through (`FLPT_DEFAULT_DID`). */
export const firstDomainId = 2;
export const identityDomainId = 1;
const mostDomainIds = 1 << 16;

export const VtdUnitState = object('VtdUnitState', {
  blockedDomain: ref('IommuDomain'),
  identityDomain: ref('IommuDomain'),
  /** Frames, made when the unit is set up. */
  rootTable: u32,
  queue: u32,
  queueStatus: u32,
  /** Switch K8: not 0 for 7.2, which gives an alias requester id no PASID table. */
  aliasPasidTableSkipped: u32,
  /** Held while a context or PASID entry is written (`iommu->lock`). */
  contextLock: mutex,
  /** Leaf lock over the queue's indices and slots (`q_lock`), see `queue.ts`. */
  queueLock: u32,
  queueFreeHead: u32,
  queueFreeTail: u32,
  queueFree: u32,
  /** Leaf lock over the bitmap of domain ids. */
  domainIdLock: u32,
  domainIds: words(mostDomainIds / 32),
});

/** Takes the lowest free domain id below `end`, or 0 when none is left. No point. */
export function takeDomainId(kernel: Memory, state: Ref<'VtdUnitState'>, end: number): number {
  const lock = VtdUnitState.domainIdLock.address(kernel, state);
  lockLeaf(kernel, lock);
  const id = lowestFree(kernel, state);
  if (id < end) setBit(kernel, state, id, true);
  unlockLeaf(kernel, lock);
  return id < end ? id : 0;
}

export function returnDomainId(kernel: Memory, state: Ref<'VtdUnitState'>, id: number): void {
  const lock = VtdUnitState.domainIdLock.address(kernel, state);
  lockLeaf(kernel, lock);
  setBit(kernel, state, id, false);
  unlockLeaf(kernel, lock);
}

/** Whether the id is a domain's, or one that is never handed out. As no point. */
export const isDomainIdTaken = (kernel: Memory, state: Ref<'VtdUnitState'>, id: number): boolean => (VtdUnitState.domainIds.get(kernel, state, id >>> 5) & (1 << (id & 31))) !== 0;

/** Marks the ids that are never handed out. */
export function reserveDomainIds(kernel: Memory, state: Ref<'VtdUnitState'>): void {
  for (let id = 0; id < firstDomainId; id++) setBit(kernel, state, id, true);
}

function lowestFree(kernel: Memory, state: Ref<'VtdUnitState'>): number {
  const first = VtdUnitState.domainIds.elementAddress(kernel, state, 0);
  for (let word = 0; word < mostDomainIds / 32; word++) {
    const free = ~peek(kernel, first + word * 4);
    if (free !== 0) return word * 32 + 31 - Math.clz32(free & -free);
  }
  return mostDomainIds;
}

function setBit(kernel: Memory, state: Ref<'VtdUnitState'>, id: number, on: boolean): void {
  const word = VtdUnitState.domainIds.get(kernel, state, id >>> 5);
  const bit = 1 << (id & 31);
  VtdUnitState.domainIds.set(kernel, state, id >>> 5, on ? word | bit : word & ~bit);
}
