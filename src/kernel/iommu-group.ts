/**
 * The core's group: the unit of isolation and of domain assignment (drivers/iommu/iommu.c). Every member translates
 * through `domain`; who owns the group decides what idle means (`core_domain`). It does not know iommufd.
 *
 *   default -> owned, blocking      by claimOwner (the first claim)
 *   owned, blocking -> attached     by attachGroup          attached -> attached    by replaceGroup
 *   attached -> owned, blocking     by detachGroup          owned -> default        by releaseOwner (the last release)
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { DomainKind, IommuDomain } from '../drivers/domain.ts';
import { assert, Errno, fail } from './errno.ts';
import { GroupBlocked, GroupClaimed, GroupMoved, GroupMoves, GroupReleased, UNTRANSLATED } from './events.ts';
import type { Kernel } from './kernel.ts';

export const IommuGroup = object('IommuGroup', {
  number: u32,
  mutex: mutex,
  defaultDomain: ref('IommuDomain'),
  blockingDomain: ref('IommuDomain'),
  domain: ref('IommuDomain').under('mutex'),
  /** The owner's token (a context), 0 when no user owns the group. */
  owner: u32.under('mutex'),
  ownerCount: u32.under('mutex'),
  /** Member list through `PciDevice.nextInGroup`; fixed once the world is built. */
  members: ref('PciDevice'),
  next: ref('IommuGroup'),
});

/** A PCI function as the kernel sees it (`struct device`). */
export const PciDevice = object('PciDevice', {
  /** Bus, device and function: `bus << 8 | device << 3 | function`. */
  address: u32,
  function: ref('PciFunction'),
  group: ref('IommuGroup'),
  nextInGroup: ref('PciDevice'),
  /** Where its page requests go, see `iopf.ts`; read without a lock. */
  faultHwpt: ref('Hwpt'),
  faultDevice: ref('IommufdDevice'),
  faultLock: mutex,
  /** Requests that nobody has taken over yet. */
  pending: ref('PageRequest').under('faultLock'),
  /** A kernel driver that does DMA through the default domain is bound. */
  kernelDriver: u32,
});

/** Whether one failing member undoes the move, or is left in blocking while the others go on (teardown). */
export const Move = { MAY_FAIL: 0, MUST_SUCCEED: 1 } as const;

/**
 * Moves all members to a domain (`__iommu_group_set_domain_internal`). On failure those already moved go back and the
 * group keeps its domain. The caller holds the group's mutex, under which both events are written: moves follow each other.
 */
export function setGroupDomain(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>, how: number): void {
  const memory = kernel.memory;
  const old = IommuGroup.domain.read(memory, group);
  if (old === domain) return;
  const number = IommuGroup.number.peek(memory, group);
  GroupMoves.emit(memory, number, rootOf(kernel, old), rootOf(kernel, domain));
  try {
    if (how === Move.MUST_SUCCEED) forceMembers(kernel, group, domain);
    else moveMembers(kernel, group, old, domain);
  } catch (error) {
    GroupMoved.emit(memory, number, rootOf(kernel, old));
    throw error;
  }
  IommuGroup.domain.write(memory, group, domain);
  GroupMoved.emit(memory, number, rootOf(kernel, domain));
}

function moveMembers(kernel: Kernel, group: Ref<'IommuGroup'>, old: Ref<'IommuDomain'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let member: Ref<'PciDevice'> = IommuGroup.members.peek(memory, group);
  try {
    for (; member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
      kernel.operations.driver.attach(kernel, domain, PciDevice.function.peek(memory, member));
    }
  } catch (error) {
    // K7: 7.2 leaves the member that refused as the driver left it, which for VT-d is blocked.
    if (!kernel.operations.faults.failedReplaceLeavesBlocked) forceMember(kernel, group, old, member);
    for (let undo = IommuGroup.members.peek(memory, group); undo !== member; undo = PciDevice.nextInGroup.peek(memory, undo)) {
      forceMember(kernel, group, old, undo);
    }
    throw error;
  }
}

function forceMembers(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    forceMember(kernel, group, domain, member);
  }
}

/** `IOMMU_SET_DOMAIN_MUST_SUCCEED`: a member that the driver refuses is parked in blocking, so that it lets go of its domain. */
function forceMember(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>, member: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const pciFunction = PciDevice.function.peek(memory, member);
  try {
    kernel.operations.driver.attach(kernel, domain, pciFunction);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    kernel.operations.driver.attach(kernel, IommuGroup.blockingDomain.peek(memory, group), pciFunction);
  }
}

/** The root frame by which hardware events name a domain; 0 for blocking, `UNTRANSLATED` for identity. */
function rootOf(kernel: Kernel, domain: Ref<'IommuDomain'>): number {
  if (domain === NULL) return 0;
  const isIdentity = IommuDomain.kind.peek(kernel.memory, domain) === DomainKind.IDENTITY;
  return isIdentity ? UNTRANSLATED : IommuDomain.root.peek(kernel.memory, domain);
}

/**
 * A user takes the group (`iommu_device_claim_dma_owner`). EPERM when someone else owns it or a kernel driver does DMA
 * through it, EBUSY when it is not on its default domain. The first claim blocks all members.
 */
export function claimOwner(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): void {
  const memory = kernel.memory;
  IommuGroup.mutex.acquire(memory, group);
  try {
    const count = IommuGroup.ownerCount.read(memory, group);
    if (count > 0 && IommuGroup.owner.read(memory, group) !== owner) fail('EPERM', 'the group has another owner');
    if (count === 0) takeGroup(kernel, group, owner);
    IommuGroup.ownerCount.write(memory, group, count + 1);
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

function takeGroup(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): void {
  const memory = kernel.memory;
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    if (PciDevice.kernelDriver.peek(memory, member) !== 0) fail('EPERM', 'a kernel driver does DMA through the group');
  }
  if (IommuGroup.domain.read(memory, group) !== IommuGroup.defaultDomain.peek(memory, group)) fail('EBUSY', 'the group is not on its default domain');
  setGroupDomain(kernel, group, IommuGroup.blockingDomain.peek(memory, group), Move.MAY_FAIL);
  IommuGroup.owner.write(memory, group, owner);
  GroupClaimed.emit(memory, IommuGroup.number.peek(memory, group), kernel.processNumber);
  GroupBlocked.emit(memory, IommuGroup.number.peek(memory, group));
}

/** The last release puts the group back on its default domain (`iommu_device_release_dma_owner`). */
export function releaseOwner(kernel: Kernel, group: Ref<'IommuGroup'>): void {
  const memory = kernel.memory;
  IommuGroup.mutex.acquire(memory, group);
  const count = IommuGroup.ownerCount.read(memory, group) - 1;
  assert(count >= 0, 'a group was released more often than claimed');
  IommuGroup.ownerCount.write(memory, group, count);
  const domain = IommuGroup.defaultDomain.peek(memory, group);
  if (count === 0) {
    GroupReleased.emit(memory, IommuGroup.number.peek(memory, group));
    IommuGroup.owner.write(memory, group, 0);
    setGroupDomain(kernel, group, domain, Move.MUST_SUCCEED);
  }
  IommuGroup.mutex.release(memory, group);
}

/** EINVAL for a domain that another driver made than that of the group's devices (`domain_iommu_ops_compatible`). */
export function checkOwner(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>): void {
  const first = PciDevice.function.peek(kernel.memory, IommuGroup.members.peek(kernel.memory, group));
  if (kernel.driver.owns?.(domain, first) === false) fail('EINVAL', 'another driver made the domain');
}

/** From default or blocking to a domain (`iommu_attach_group_handle`); EBUSY otherwise, EINVAL as `checkOwner`. */
export function attachGroup(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  IommuGroup.mutex.acquire(memory, group);
  try {
    const current = IommuGroup.domain.read(memory, group);
    const idle = current === IommuGroup.defaultDomain.peek(memory, group) || current === IommuGroup.blockingDomain.peek(memory, group);
    if (!idle) fail('EBUSY', 'the group is attached');
    checkOwner(kernel, group, domain);
    setGroupDomain(kernel, group, domain, Move.MAY_FAIL);
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

/** From whatever the group has to `domain`, all members or none (`iommu_replace_group_handle`). */
export function replaceGroup(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>): void {
  IommuGroup.mutex.acquire(kernel.memory, group);
  try {
    // K9: 7.2 checks this on a first attach and for PASIDs only.
    if (!kernel.operations.faults.replaceForeignHwpt) checkOwner(kernel, group, domain);
    setGroupDomain(kernel, group, domain, Move.MAY_FAIL);
  } finally {
    IommuGroup.mutex.release(kernel.memory, group);
  }
}

/** Back to blocking if owned, to the default domain if not (`iommu_detach_group_handle`). */
export function detachGroup(kernel: Kernel, group: Ref<'IommuGroup'>): void {
  const memory = kernel.memory;
  IommuGroup.mutex.acquire(memory, group);
  const owned = IommuGroup.owner.read(memory, group) !== 0;
  const domain = owned ? IommuGroup.blockingDomain.peek(memory, group) : IommuGroup.defaultDomain.peek(memory, group);
  setGroupDomain(kernel, group, domain, Move.MUST_SUCCEED);
  IommuGroup.mutex.release(memory, group);
}
