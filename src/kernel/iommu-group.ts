/**
 * The core's group: the unit of isolation and of domain assignment (drivers/iommu/iommu.c). Every member translates
 * through `domain`; who owns the group decides what idle means (`core_domain`). It does not know iommufd. Who may own it: `dma-owner.ts`; how one
 * member is taken out of all this for a while: `device-reset.ts`.
 *
 *   default -> owned, blocking      by claimOwner (the first claim)
 *   owned, blocking -> attached     by attachGroup          attached -> attached    by replaceGroup
 *   attached -> owned, blocking     by detachGroup          owned -> default        by releaseOwner (the last release)
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { DomainKind, IommuDomain } from '../drivers/domain.ts';
import { Errno, fail } from './errno.ts';
import { GroupMoved, GroupMoves, UNTRANSLATED } from './events.ts';
import type { Kernel } from './kernel.ts';

export const IommuGroup = object('IommuGroup', {
  number: u32,
  mutex: mutex,
  defaultDomain: ref('IommuDomain'),
  blockingDomain: ref('IommuDomain'),
  domain: ref('IommuDomain').under('mutex'),
  /** The owner's token (a context), 0 when no user owns the group. */
  owner: u32.under('mutex'),
  /** Claims of the owner; without an owner, drivers that do DMA through the default domain (`owner_cnt`). */
  ownerCount: u32.under('mutex'),
  /** Members that are being reset: the group does not move meanwhile (`recovery_cnt`). */
  recoveryCount: u32.under('mutex'),
  /** What is attached under a PASID, whatever the RID is on (`pasid_array`). */
  pasids: ref('GroupPasid').under('mutex'),
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
  /** Shares in PASID slots whose requests somebody takes. Under `pageRequestLock`. */
  takingPasids: ref('PasidAttachment'),
  faultLock: mutex,
  /** Requests that nobody has taken over yet. */
  pending: ref('PageRequest').under('faultLock'),
  /** The kernel driver that is bound, a `KernelDriver`. One thread binds and unbinds a device at a time. */
  kernelDriver: u32,
  /** It can cache translations (ATS), whether it does so or not. */
  ats: u32,
  /** Firmware has it use memory 1:1 (`require_direct`): it cannot be blocked. */
  requiresDirect: u32,
  /** Resets that have been prepared and not done; the first parks the device in blocking. */
  resetDepth: u32.under('group.mutex'),
  /** It is parked there, whatever the group's domain is. */
  blocked: u32.under('group.mutex'),
  /** `NULL` while it is not connected to a security manager. */
  tsm: ref('PciTsm'),
});

/** Which driver a device has. One that manages DMA itself (`driver_managed_dma`: vfio-pci, portdrv) leaves the default domain alone. */
export const KernelDriver = { NONE: 0, DEFAULT_DOMAIN: 1, MANAGES_DMA: 2 } as const;
export type KernelDriver = (typeof KernelDriver)[keyof typeof KernelDriver];

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
  if (!kernel.operations.group.admitMove(kernel, group, how)) return;
  const number = IommuGroup.number.peek(memory, group);
  GroupMoves.emit(memory, number, rootOf(kernel, old), rootOf(kernel, domain));
  try {
    if (how === Move.MUST_SUCCEED) forceMembers(kernel, group, domain);
    else kernel.operations.group.moveMembers(kernel, group, old, domain);
  } catch (error) {
    GroupMoved.emit(memory, number, rootOf(kernel, old));
    throw error;
  }
  IommuGroup.domain.write(memory, group, domain);
  GroupMoved.emit(memory, number, rootOf(kernel, domain));
}

/** Whether the group moves; EBUSY while a member is being reset, but in teardown, which passes the member by. Under the group's mutex. */
export function admitMove(kernel: Kernel, group: Ref<'IommuGroup'>, how: number): boolean {
  const isResetting = IommuGroup.recoveryCount.read(kernel.memory, group) > 0;
  return isResetting && how === Move.MAY_FAIL ? fail('EBUSY', 'a member of the group is being reset') : true;
}

/** All members, or none: those that have moved go back when one refuses. Under the group's mutex. */
export function moveMembers(kernel: Kernel, group: Ref<'IommuGroup'>, old: Ref<'IommuDomain'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let member: Ref<'PciDevice'> = IommuGroup.members.peek(memory, group);
  try {
    for (; member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
      setMemberDomain(kernel, group, domain, member);
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

/** `__iommu_device_set_domain`. EINVAL for blocking, of a device that firmware keeps memory for, and what the driver says. */
export function setMemberDomain(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>, member: Ref<'PciDevice'>): void {
  const isBlocking = domain === IommuGroup.blockingDomain.peek(kernel.memory, group);
  if (isBlocking && PciDevice.requiresDirect.peek(kernel.memory, member) !== 0) fail('EINVAL', 'firmware has the device use memory 1:1');
  kernel.operations.driver.attach(kernel, domain, PciDevice.function.peek(kernel.memory, member));
}

/** A member that is being reset stays parked: it gets what the group has then when the reset is done. */
function forceMembers(kernel: Kernel, group: Ref<'IommuGroup'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    if (PciDevice.blocked.read(memory, member) === 0) forceMember(kernel, group, domain, member);
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

/** What a group that nobody has attached translates through (`__iommu_group_set_core_domain`), with that owner or 0. Under the group's mutex. */
export function idleDomain(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): Ref<'IommuDomain'> {
  return owner !== 0 ? IommuGroup.blockingDomain.peek(kernel.memory, group) : IommuGroup.defaultDomain.peek(kernel.memory, group);
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

/** Back to what the group idles in (`iommu_detach_group_handle`). */
export function detachGroup(kernel: Kernel, group: Ref<'IommuGroup'>): void {
  const memory = kernel.memory;
  IommuGroup.mutex.acquire(memory, group);
  setGroupDomain(kernel, group, kernel.operations.group.idleDomain(kernel, group, IommuGroup.owner.read(memory, group)), Move.MUST_SUCCEED);
  IommuGroup.mutex.release(memory, group);
}
