/**
 * PASIDs of a group in the core (drivers/iommu/iommu.c, SEMANTICS B10): what the requests of all members that have PASIDs go through. The group moves as one,
 * each member has a table of its own. It does not know iommufd.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { IommuDomain } from '../drivers/domain.ts';
import { allocated, assert, fail, type ErrnoName } from './errno.ts';
import { PasidMoved, PasidMoves } from './events.ts';
import { checkOwner, IommuGroup, Move, PciDevice } from './iommu-group.ts';
import type { Kernel } from './kernel.ts';

/** A PASID that somebody has attached, and what it goes through (an entry of `pasid_array`). */
export const GroupPasid = object('GroupPasid', {
  group: ref('IommuGroup'),
  pasid: u32,
  domain: ref('IommuDomain').under('group.mutex'),
  next: ref('GroupPasid').under('group.mutex'),
});

/**
 * Lets requests with the PASID go through a domain (`iommu_attach_device_pasid`). EOPNOTSUPP of a driver that sets none, EINVAL for a domain of another driver,
 * for PASID 0 and for one that a member does not have, EBUSY during a reset and when it is attached, ENOMEM, and what the driver says.
 */
export function attachDevicePasid(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  checkAsked(kernel, group, pasid, domain);
  IommuGroup.mutex.acquire(memory, group);
  try {
    kernel.operations.group.admitMove(kernel, group, Move.MAY_FAIL);
    checkWidths(kernel, group, pasid);
    if (find(kernel, group, pasid) !== NULL) fail('EBUSY', `PASID ${pasid} of the group is attached`);
    // Before the hardware moves: without memory for it nothing has to be put back.
    const added = create(kernel, group, pasid);
    try {
      move(kernel, added, domain);
    } catch (error) {
      GroupPasid.free(memory, added);
      throw error;
    }
    GroupPasid.next.write(memory, added, IommuGroup.pasids.read(memory, group));
    IommuGroup.pasids.write(memory, group, added);
  } finally {
    IommuGroup.mutex.release(memory, group);
  }
}

/** From what the PASID goes through to `domain`, all members or none (`iommu_replace_device_pasid`). EINVAL when it is not attached, else as an attach. */
export function replaceDevicePasid(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number, domain: Ref<'IommuDomain'>): void {
  checkAsked(kernel, group, pasid, domain);
  IommuGroup.mutex.acquire(kernel.memory, group);
  try {
    kernel.operations.group.admitMove(kernel, group, Move.MAY_FAIL);
    const known = find(kernel, group, pasid);
    if (known === NULL) fail('EINVAL', `PASID ${pasid} of the group is not attached`);
    if (GroupPasid.domain.read(kernel.memory, known) !== domain) move(kernel, known, domain);
  } finally {
    IommuGroup.mutex.release(kernel.memory, group);
  }
}

/** Requests with the PASID fault from here on (`iommu_detach_device_pasid`). It cannot fail, and passes by a member that is being reset, which is parked. */
export function detachDevicePasid(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number): void {
  const memory = kernel.memory;
  const number = IommuGroup.number.peek(memory, group);
  const blocked = IommuGroup.blockingDomain.peek(memory, group);
  IommuGroup.mutex.acquire(memory, group);
  const gone = find(kernel, group, pasid);
  assert(gone !== NULL, 'a PASID is detached that was attached');
  PasidMoves.emit(memory, number, pasid, rootOf(kernel, GroupPasid.domain.read(memory, gone)), 0, kernel.processNumber);
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    if (PciDevice.blocked.read(memory, member) === 0) setMember(kernel, member, pasid, blocked);
  }
  PasidMoved.emit(memory, number, pasid, 0);
  unlink(kernel, group, gone);
  GroupPasid.free(memory, gone);
  IommuGroup.mutex.release(memory, group);
}

/** A member that is about to be reset is blocked for all PASIDs too; the group keeps them. Under the group's mutex. Pairs with `restorePasids`. */
export function parkPasids(kernel: Kernel, group: Ref<'IommuGroup'>, member: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const blocked = IommuGroup.blockingDomain.peek(memory, group);
  for (let at = IommuGroup.pasids.read(memory, group); at !== NULL; at = GroupPasid.next.read(memory, at)) {
    setMember(kernel, member, GroupPasid.pasid.peek(memory, at), blocked);
  }
}

/** The member gets what the group has *now*. A PASID that its driver refuses stays blocked: nobody can be told (7.2 warns). Under the group's mutex. */
export function restorePasids(kernel: Kernel, group: Ref<'IommuGroup'>, member: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  for (let at = IommuGroup.pasids.read(memory, group); at !== NULL; at = GroupPasid.next.read(memory, at)) {
    setMember(kernel, member, GroupPasid.pasid.peek(memory, at), GroupPasid.domain.read(memory, at));
  }
}

function checkAsked(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number, domain: Ref<'IommuDomain'>): void {
  if (kernel.driver.setPasid === undefined) fail('EOPNOTSUPP', 'the driver sets no PASIDs');
  if (pasid === 0) fail('EINVAL', 'PASID 0 stands for the requests without one');
  checkOwner(kernel, group, domain);
}

/** Asked of all members before the first one is set. Those without PASIDs are passed by. */
function checkWidths(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number): void {
  const memory = kernel.memory;
  for (let member = IommuGroup.members.peek(memory, group); member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    const width = widthOf(kernel, member);
    if (width > 0 && pasid >= width) fail('EINVAL', `a member of the group has PASIDs below ${width}, and not ${pasid}`);
  }
}

/** How many PASIDs a member has (`max_pasids`). */
const widthOf = (kernel: Kernel, member: Ref<'PciDevice'>): number => kernel.driver.pasidsOf?.(PciDevice.function.peek(kernel.memory, member)) ?? 0;

/** Tells of the move, and makes it. What the driver says; all is as before then. */
function move(kernel: Kernel, moved: Ref<'GroupPasid'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  const number = IommuGroup.number.peek(memory, GroupPasid.group.peek(memory, moved));
  const pasid = GroupPasid.pasid.peek(memory, moved);
  PasidMoves.emit(memory, number, pasid, rootOf(kernel, GroupPasid.domain.read(memory, moved)), rootOf(kernel, domain), kernel.processNumber);
  try {
    setMembers(kernel, moved, domain);
    GroupPasid.domain.write(memory, moved, domain);
  } finally {
    PasidMoved.emit(memory, number, pasid, rootOf(kernel, GroupPasid.domain.read(memory, moved)));
  }
}

/** `__iommu_set_group_pasid`: a member that refuses makes those before it go back. */
function setMembers(kernel: Kernel, moved: Ref<'GroupPasid'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  const pasid = GroupPasid.pasid.peek(memory, moved);
  const old = GroupPasid.domain.read(memory, moved);
  const first = IommuGroup.members.peek(memory, GroupPasid.group.peek(memory, moved));
  for (let member: Ref<'PciDevice'> = first; member !== NULL; member = PciDevice.nextInGroup.peek(memory, member)) {
    const problem = setMember(kernel, member, pasid, domain);
    if (problem === 0) continue;
    for (let undo = first; undo !== member; undo = PciDevice.nextInGroup.peek(memory, undo)) setMember(kernel, undo, pasid, old);
    fail(problem, `the driver refuses PASID ${pasid}`);
  }
}

/** What the driver says; 0 for a member without PASIDs, which has nothing to set. */
function setMember(kernel: Kernel, member: Ref<'PciDevice'>, pasid: number, domain: Ref<'IommuDomain'>): 0 | ErrnoName {
  if (widthOf(kernel, member) === 0) return 0;
  return kernel.driver.setPasid?.(domain, PciDevice.function.peek(kernel.memory, member), pasid) ?? 0;
}

/** Under the group's mutex, as below. */
function find(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number): Ref<'GroupPasid'> {
  let at: Ref<'GroupPasid'> = IommuGroup.pasids.read(kernel.memory, group);
  while (at !== NULL && GroupPasid.pasid.peek(kernel.memory, at) !== pasid) at = GroupPasid.next.read(kernel.memory, at);
  return at;
}

/** In no list, and blocked. ENOMEM. */
function create(kernel: Kernel, group: Ref<'IommuGroup'>, pasid: number): Ref<'GroupPasid'> {
  const memory = kernel.memory;
  const added = allocated(GroupPasid.tryCreate(memory));
  GroupPasid.group.poke(memory, added, group);
  GroupPasid.pasid.poke(memory, added, pasid);
  GroupPasid.domain.write(memory, added, IommuGroup.blockingDomain.peek(memory, group));
  return added;
}

function unlink(kernel: Kernel, group: Ref<'IommuGroup'>, gone: Ref<'GroupPasid'>): void {
  const memory = kernel.memory;
  const next = GroupPasid.next.read(memory, gone);
  let at = IommuGroup.pasids.read(memory, group);
  if (at === gone) IommuGroup.pasids.write(memory, group, next);
  else {
    while (GroupPasid.next.read(memory, at) !== gone) at = GroupPasid.next.read(memory, at);
    GroupPasid.next.write(memory, at, next);
  }
}

/** The root frame by which hardware names a domain; 0 for blocking. */
const rootOf = (kernel: Kernel, domain: Ref<'IommuDomain'>): number => (domain === NULL ? 0 : IommuDomain.root.peek(kernel.memory, domain));
