/**
 * Who may do DMA through a group: drivers of the kernel, all through its default domain, or one user, whose token is a context (SEMANTICS B4 to
 * B6, SEEDS 000). Both are counted in `ownerCount` under the group's mutex: never both at once.
 */
import { NULL, type Ref } from '#hostmem/object';
import { assert, fail } from './errno.ts';
import { DriverBound, DriverUnbound, GroupBlocked, GroupClaimed, GroupReleased } from './events.ts';
import { IommuGroup, KernelDriver, Move, PciDevice, setGroupDomain } from './iommu-group.ts';
import type { Kernel } from './kernel.ts';

/**
 * A user takes the group (`iommu_device_claim_dma_owner`); the first claim blocks all members. EPERM when someone else owns it or a kernel
 * driver does DMA through it, EBUSY when it is not idle or has a PASID attached, EINVAL when a member cannot be blocked.
 */
export function claimOwner(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): void {
  const memory = kernel.memory;
  IommuGroup.mutex.acquire(memory, group);
  try {
    const count = IommuGroup.ownerCount.read(memory, group);
    if (count > 0 && IommuGroup.owner.read(memory, group) !== owner) fail('EPERM', 'the group has another owner, or a kernel driver does DMA through it');
    if (count === 0) takeGroup(kernel, group, owner);
    IommuGroup.ownerCount.write(memory, group, count + 1);
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

/** `__iommu_take_dma_ownership`. The caller holds the mutex. */
export function takeGroup(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): void {
  const memory = kernel.memory;
  const { idleDomain } = kernel.operations.group;
  if (IommuGroup.domain.read(memory, group) !== idleDomain(kernel, group, 0)) fail('EBUSY', 'the group is not on its default domain');
  if (hasPasids(kernel, group)) fail('EBUSY', 'a PASID of the group is attached');
  setGroupDomain(kernel, group, idleDomain(kernel, group, owner), Move.MAY_FAIL);
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
  if (count === 0) {
    GroupReleased.emit(memory, IommuGroup.number.peek(memory, group));
    IommuGroup.owner.write(memory, group, 0);
    settle(kernel, group);
  }
  IommuGroup.mutex.release(memory, group);
}

/** A driver is to do DMA through the default domain (`iommu_device_use_default_domain`). EPROBE_DEFER before there is one, EBUSY. */
export function useDefaultDomain(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const group = PciDevice.group.peek(memory, device);
  IommuGroup.mutex.acquire(memory, group);
  try {
    const standard = IommuGroup.defaultDomain.peek(memory, group);
    if (standard === NULL) fail('EPROBE_DEFER', 'the group has no default domain yet');
    const count = IommuGroup.ownerCount.read(memory, group);
    const isTaken = IommuGroup.owner.read(memory, group) !== 0 || IommuGroup.domain.read(memory, group) !== standard;
    if (count > 0 && isTaken) fail('EBUSY', 'a user owns the group');
    // Nor a second driver beside one whose device has PASIDs attached: they are its members' too.
    if (count > 0 && hasPasids(kernel, group)) fail('EBUSY', 'a PASID of the group is attached');
    IommuGroup.ownerCount.write(memory, group, count + 1);
    if (count === 0) settle(kernel, group);
    tellDriver(kernel, DriverBound, device, KernelDriver.DEFAULT_DOMAIN);
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

/** It does no DMA any more (`iommu_device_unuse_default_domain`). */
export function unuseDefaultDomain(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const group = PciDevice.group.peek(memory, device);
  IommuGroup.mutex.acquire(memory, group);
  const count = IommuGroup.ownerCount.read(memory, group) - 1;
  IommuGroup.ownerCount.write(memory, group, count);
  if (count === 0) settle(kernel, group);
  tellDriver(kernel, DriverUnbound, device, KernelDriver.DEFAULT_DOMAIN);
  IommuGroup.mutex.release(memory, group);
}

/** Tells what a driver of a device does. Who claims the group later is told of later: with `DEFAULT_DOMAIN` the caller holds the mutex, but for a probe. */
export function tellDriver(kernel: Kernel, what: typeof DriverBound, device: Ref<'PciDevice'>, driver: KernelDriver): void {
  const memory = kernel.memory;
  what.emit(memory, IommuGroup.number.peek(memory, PciDevice.group.peek(memory, device)), PciDevice.address.peek(memory, device), driver);
}

const hasPasids = (kernel: Kernel, group: Ref<'IommuGroup'>): boolean => IommuGroup.pasids.read(kernel.memory, group) !== NULL;

/** Without an owner: to what the group idles in. When a driver comes or goes that is where 7.2 has it already, but a variant may not. */
function settle(kernel: Kernel, group: Ref<'IommuGroup'>): void {
  setGroupDomain(kernel, group, kernel.operations.group.idleDomain(kernel, group, 0), Move.MUST_SUCCEED);
}
