/**
 * A mediated device: a share of a PCI function that a driver of the kernel hands to a VM (SIOV as it was argued about in 2021; 7.2 has no such driver). All
 * requests of the function carry one requester id, PASIDs alone tell the shares apart, and the tables know only the function: so its driver keeps a list
 * of the PASIDs of each share, and looks at it when work is submitted.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { PasidSubmitted } from './events.ts';
import { attachDevicePasid, detachDevicePasid } from './group-pasid.ts';
import { headerOf, Hwpt } from './hwpt.ts';
import { IommuGroup } from './iommu-group.ts';
import { groupOf } from './iommu-probe.ts';
import type { Kernel } from './kernel.ts';
import { addUser, dropUser, getObject, IommufdObject, Kind, putIommufd, putObject } from './objects.ts';
import { getIommufd } from './vfio.ts';

export const Mdev = object('Mdev', { function: ref('PciFunction'), lock: mutex, allowed: ref('AllowedPasid').under('lock') });

const AllowedPasid = object('AllowedPasid', { pasid: u32, hwpt: ref('Hwpt'), next: ref('AllowedPasid') });

/**
 * The VM lets its share reach an HWPT under a PASID, which goes into the function's table and onto the share's list. The share keeps the HWPT, and its context.
 * EBADF, EBADFD, ENOENT, EBUSY, ENOMEM, and as `attachDevicePasid`.
 */
export function allowPasid(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number, iommufdFd: number, hwptId: number): void {
  const iommufd = getIommufd(kernel, iommufdFd);
  try {
    allowFrom(kernel, mdev, pasid, iommufd, hwptId);
  } catch (error) {
    putIommufd(kernel, iommufd);
    throw error;
  }
}

function allowFrom(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number, iommufd: Ref<'Iommufd'>, hwptId: number): void {
  const memory = kernel.memory;
  const target = getObject(kernel, iommufd, hwptId, Kind.HWPT);
  Mdev.lock.acquire(memory, mdev);
  try {
    if (find(kernel, mdev, pasid) !== NULL) fail('EBUSY', `the share has PASID ${pasid}`);
    const added = attach(kernel, mdev, pasid, IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>);
    addUser(kernel, target);
    AllowedPasid.next.poke(memory, added, Mdev.allowed.read(memory, mdev));
    Mdev.allowed.write(memory, mdev, added);
  } finally {
    Mdev.lock.release(memory, mdev);
    putObject(kernel, target);
  }
}

/** The record, on no list; it is made before the hardware moves. */
function attach(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number, hwpt: Ref<'Hwpt'>): Ref<'AllowedPasid'> {
  const memory = kernel.memory;
  const added = allocated(AllowedPasid.tryCreate(memory));
  AllowedPasid.pasid.poke(memory, added, pasid);
  AllowedPasid.hwpt.poke(memory, added, hwpt);
  try {
    attachDevicePasid(kernel, groupOfShare(kernel, mdev), pasid, Hwpt.domain.peek(memory, hwpt));
    return added;
  } catch (error) {
    AllowedPasid.free(memory, added);
    throw error;
  }
}

/** Off the list, then out of the table: nothing new is submitted, and on return nothing reaches anything. EINVAL. */
export function disallowPasid(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number): void {
  const target = headerOf(kernel, takeOff(kernel, mdev, pasid));
  dropUser(kernel, target);
  putIommufd(kernel, IommufdObject.iommufd.peek(kernel.memory, target));
}

/** Returns the HWPT that the share has kept. */
function takeOff(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number): Ref<'Hwpt'> {
  const memory = kernel.memory;
  Mdev.lock.acquire(memory, mdev);
  try {
    const gone = find(kernel, mdev, pasid);
    if (gone === NULL) fail('EINVAL', `the share does not have PASID ${pasid}`);
    unlink(kernel, mdev, gone);
    detachDevicePasid(kernel, groupOfShare(kernel, mdev), pasid);
    const hwpt = AllowedPasid.hwpt.peek(memory, gone);
    AllowedPasid.free(memory, gone);
    return hwpt;
  } finally {
    Mdev.lock.release(memory, mdev);
  }
}

/** The driver takes work for the function in the name of a share. EPERM for a PASID that is not on its list. */
export function submitWork(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number): void {
  if (!kernel.operations.pasid.mayUse(kernel, mdev, pasid)) fail('EPERM', `PASID ${pasid} is not one of the share`);
  PasidSubmitted.emit(kernel.memory, IommuGroup.number.peek(kernel.memory, groupOfShare(kernel, mdev)), pasid, kernel.processNumber);
}

export function mayUse(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number): boolean {
  Mdev.lock.acquire(kernel.memory, mdev);
  const found = find(kernel, mdev, pasid);
  Mdev.lock.release(kernel.memory, mdev);
  return found !== NULL;
}

const groupOfShare = (kernel: Kernel, mdev: Ref<'Mdev'>): Ref<'IommuGroup'> => groupOf(kernel, Mdev.function.peek(kernel.memory, mdev));

/** Under `Mdev.lock`, as below. */
function find(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number): Ref<'AllowedPasid'> {
  let at: Ref<'AllowedPasid'> = Mdev.allowed.read(kernel.memory, mdev);
  while (at !== NULL && AllowedPasid.pasid.peek(kernel.memory, at) !== pasid) at = AllowedPasid.next.peek(kernel.memory, at);
  return at;
}

function unlink(kernel: Kernel, mdev: Ref<'Mdev'>, gone: Ref<'AllowedPasid'>): void {
  const memory = kernel.memory;
  const next = AllowedPasid.next.peek(memory, gone);
  let at = Mdev.allowed.read(memory, mdev);
  if (at === gone) Mdev.allowed.write(memory, mdev, next);
  else {
    while (AllowedPasid.next.peek(memory, at) !== gone) at = AllowedPasid.next.peek(memory, at);
    AllowedPasid.next.poke(memory, at, next);
  }
}
