/**
 * The RID's slot of a group inside iommufd: attach, replace, detach (drivers/iommu/iommufd/device.c, 7.2).
 *
 * The group's attachment record is the truth: one HWPT and the list of members that asked for it. The first member to
 * attach switches the whole group, later ones only join; a replace through any member moves all. Lock order:
 * `Ioas.mutex` -> `IommufdGroup.lock` -> `IommuGroup.mutex`. The slots of PASIDs are in `iommufd-pasid.ts`.
 */
import { NULL, type Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { GroupBlocked, HwptRecorded } from './events.ts';
import { answerForDevice } from './fault-queue.ts';
import { headerOf, Hwpt, hwptId } from './hwpt.ts';
import { attachGroup, detachGroup, replaceGroup } from './iommu-group.ts';
import { deviceId, IommufdDevice } from './iommufd-device.ts';
import { groupNumber, IommufdGroup } from './iommufd-group.ts';
import { checkRidHwpt } from './iommufd-pasid.ts';
import { reserveForDevice, reserveForMembers, unreserveForDevice, unreserveForMembers } from './iommufd-reserved.ts';
import type { Kernel } from './kernel.ts';
import { switchRequests } from './iopf.ts';
import { addUser, dropUser } from './objects.ts';

/** What the RID of the device's group is attached to, or null. */
export function hwptOfRid(kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'Hwpt'> {
  const group = IommufdDevice.group.peek(kernel.memory, device);
  IommufdGroup.lock.acquire(kernel.memory, group);
  const hwpt = IommufdGroup.hwpt.read(kernel.memory, group);
  IommufdGroup.lock.release(kernel.memory, group);
  return hwpt;
}

/** Joins the group's attachment; the first member switches the group (`iommufd_hw_pagetable_attach`). */
export function attach(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  try {
    const current = IommufdGroup.hwpt.read(memory, group);
    if (IommufdDevice.attached.read(memory, device) !== 0) fail('EBUSY', 'the device is attached');
    if (current !== NULL && current !== hwpt) fail('EINVAL', 'a member of the group is attached to something else');
    reserveForDevice(kernel, Hwpt.ioas.peek(memory, hwpt), device);
    try {
      if (current === NULL) checkRidHwpt(kernel, group, hwpt);
      if (current === NULL) attachGroup(kernel, IommufdGroup.group.peek(memory, group), Hwpt.domain.peek(memory, hwpt));
    } catch (error) {
      unreserveForDevice(kernel, Hwpt.ioas.peek(memory, hwpt), device);
      throw error;
    }
    switchRequests(kernel, device, hwpt);
    addUser(kernel, headerOf(kernel, hwpt));
    IommufdDevice.attached.write(memory, device, 1);
    IommufdDevice.nextAttached.write(memory, device, IommufdGroup.attached.read(memory, group));
    IommufdGroup.attached.write(memory, group, device);
    record(kernel, group, device, hwpt);
  } finally {
    IommufdGroup.lock.release(memory, group);
  }
}

/**
 * Moves the whole group to another HWPT (`iommufd_device_do_replace`, the seven steps of SEEDS 002). Returns the old
 * HWPT, whose last user the caller drops when no lock is held, or null when nothing changed.
 */
export function replace(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  try {
    const old = attachedHwpt(kernel, group, device);
    if (old === hwpt) return NULL;
    const sameIoas = Hwpt.ioas.peek(memory, old) === Hwpt.ioas.peek(memory, hwpt);
    if (!sameIoas) reserveForMembers(kernel, group, Hwpt.ioas.peek(memory, hwpt));
    try {
      checkRidHwpt(kernel, group, hwpt);
      replaceGroup(kernel, IommufdGroup.group.peek(memory, group), Hwpt.domain.peek(memory, hwpt));
    } catch (error) {
      // K4: 7.2 takes the regions away also when old and new share the IOAS.
      if (!sameIoas || kernel.operations.faults.failedReplaceDropsReserved) unreserveForMembers(kernel, group, Hwpt.ioas.peek(memory, hwpt));
      throw error;
    }
    if (!sameIoas) unreserveForMembers(kernel, group, Hwpt.ioas.peek(memory, old));
    kernel.operations.iopf.leave(kernel, group, old, hwpt);
    record(kernel, group, device, hwpt);
    moveUsers(kernel, group, old, hwpt);
    return old;
  } finally {
    IommufdGroup.lock.release(memory, group);
  }
}

/** What the group is recorded on, seen from an attached member; EINVAL for one that is not (55c85fa7579d). */
export function attachedHwpt(kernel: Kernel, group: Ref<'IommufdGroup'>, device: Ref<'IommufdDevice'>): Ref<'Hwpt'> {
  const hwpt = IommufdGroup.hwpt.read(kernel.memory, group);
  if (hwpt === NULL || IommufdDevice.attached.read(kernel.memory, device) === 0) fail('EINVAL', 'the device is not attached');
  return hwpt;
}

/** Says where the group is. The caller holds `IommufdGroup.lock`. */
export function record(kernel: Kernel, group: Ref<'IommufdGroup'>, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  IommufdGroup.hwpt.write(memory, group, hwpt);
  HwptRecorded.emit(memory, groupNumber(kernel, group), deviceId(kernel, device), hwpt === NULL ? 0 : hwptId(kernel, hwpt));
}

/** Every member's edge goes from `old` to `hwpt`, but one on `old`, which the caller drops last (it may destroy). */
export function moveUsers(kernel: Kernel, group: Ref<'IommufdGroup'>, old: Ref<'Hwpt'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  let members = 0;
  for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) members++;
  addUser(kernel, headerOf(kernel, hwpt), members);
  if (members > 1) dropUser(kernel, headerOf(kernel, old), members - 1);
}

/** Leaves the attachment; the last member blocks the group (`iommufd_hw_pagetable_detach`). Returns the HWPT to put. */
export function detach(kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  const hwpt = IommufdGroup.hwpt.read(memory, group);
  const queue = Hwpt.faultQueue.peek(memory, hwpt);
  unlinkAttached(kernel, group, device);
  if (IommufdGroup.attached.read(memory, group) === NULL) {
    record(kernel, group, device, NULL);
    detachGroup(kernel, IommufdGroup.group.peek(memory, group));
    GroupBlocked.emit(memory, groupNumber(kernel, group));
  }
  unreserveForDevice(kernel, Hwpt.ioas.peek(memory, hwpt), device);
  switchRequests(kernel, device, NULL);
  if (queue !== NULL) answerForDevice(kernel, queue, device);
  IommufdGroup.lock.release(memory, group);
  return hwpt;
}

/** The members go from an HWPT to another: nobody answers any more what they asked through the old one. Under the group's lock. */
export function leaveHwpt(kernel: Kernel, group: Ref<'IommufdGroup'>, old: Ref<'Hwpt'>, hwpt: Ref<'Hwpt'>): void {
  switchMembers(kernel, group, hwpt);
  answerMembers(kernel, group, old);
}

export function switchMembers(kernel: Kernel, group: Ref<'IommufdGroup'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) switchRequests(kernel, at, hwpt);
}

/** INVALID, for all that they have in the queue of an HWPT. */
export function answerMembers(kernel: Kernel, group: Ref<'IommufdGroup'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const queue = Hwpt.faultQueue.peek(memory, hwpt);
  if (queue === NULL) return;
  for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) answerForDevice(kernel, queue, at);
}

export function unlinkAttached(kernel: Kernel, group: Ref<'IommufdGroup'>, device: Ref<'IommufdDevice'>): void {
  const memory = kernel.memory;
  const next = IommufdDevice.nextAttached.read(memory, device);
  let at = IommufdGroup.attached.read(memory, group);
  if (at === device) IommufdGroup.attached.write(memory, group, next);
  else {
    while (IommufdDevice.nextAttached.read(memory, at) !== device) at = IommufdDevice.nextAttached.read(memory, at);
    IommufdDevice.nextAttached.write(memory, at, next);
  }
  IommufdDevice.nextAttached.write(memory, device, NULL);
  IommufdDevice.attached.write(memory, device, 0);
}
