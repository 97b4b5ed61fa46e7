/**
 * PASID slots of a group inside iommufd: attach, replace and detach of (device, pasid) (drivers/iommu/iommufd/device.c, 7.2).
 *
 * A slot has one HWPT for all members that attached the PASID; its HWPT and the RID's must both be made for PASIDs. The core
 * programs the tables of members that have PASIDs (`iommu_attach_device_pasid`); for the others a slot is bookkeeping.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { attachDevicePasid, detachDevicePasid, replaceDevicePasid } from './group-pasid.ts';
import { addUser, dropUser } from './objects.ts';
import { headerOf, Hwpt, HwptFlag } from './hwpt.ts';
import { IommufdDevice } from './iommufd-device.ts';
import { IommufdGroup } from './iommufd-group.ts';
import type { Kernel } from './kernel.ts';

/** A member's share in a PASID slot; those of one PASID name one HWPT. */
export const PasidAttachment = object('PasidAttachment', {
  group: ref('IommufdGroup'),
  device: ref('IommufdDevice'),
  pasid: u32,
  hwpt: ref('Hwpt').under('group.lock'),
  next: ref('PasidAttachment').under('group.lock'),
  /** Where the device's page requests with the PASID go, and the next share of the device that has such a place. Under `pageRequestLock`, see `iopf.ts`. */
  faultHwpt: ref('Hwpt'),
  nextTaking: ref('PasidAttachment'),
});

/** Whether an HWPT may be the RID's (`iommufd_hwpt_pasid_compat`): while a PASID is attached it must be made for PASIDs. EINVAL. Under the group's lock. */
export function checkRidHwpt(kernel: Kernel, group: Ref<'IommufdGroup'>, hwpt: Ref<'Hwpt'>): void {
  if (isForPasids(kernel, hwpt) || IommufdGroup.pasids.read(kernel.memory, group) === NULL) return;
  fail('EINVAL', 'a PASID of the group is attached and the HWPT is not made for PASIDs');
}

/** Joins the slot, which the first member opens. EBUSY, EINVAL, ENOMEM. */
export function attachPasid(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  try {
    if (find(kernel, group, pasid, device) !== NULL) fail('EBUSY', 'the device has the PASID attached');
    const mate = find(kernel, group, pasid, NULL);
    if (mate === NULL) checkPasidHwpt(kernel, group, hwpt);
    else if (PasidAttachment.hwpt.read(memory, mate) !== hwpt) fail('EINVAL', 'a member of the group has the PASID on something else');
    // Made before the hardware moves: without memory for it nothing has to be put back.
    const share = createShare(kernel, group, device, pasid);
    if (mate === NULL) openSlot(kernel, group, pasid, hwpt, share);
    link(kernel, group, share, hwpt);
    kernel.operations.iopf.movePasid(kernel, share, NULL, hwpt);
    addUser(kernel, headerOf(kernel, hwpt));
  } finally {
    IommufdGroup.lock.release(memory, group);
  }
}

/** The first member: the PASID goes through the HWPT's domain from now on. What the driver says; the share is freed then. */
function openSlot(kernel: Kernel, group: Ref<'IommufdGroup'>, pasid: number, hwpt: Ref<'Hwpt'>, share: Ref<'PasidAttachment'>): void {
  try {
    attachDevicePasid(kernel, IommufdGroup.group.peek(kernel.memory, group), pasid, Hwpt.domain.peek(kernel.memory, hwpt));
  } catch (error) {
    PasidAttachment.free(kernel.memory, share);
    throw error;
  }
}

/** Moves all members of the slot. Returns the old HWPT, whose last user the caller drops, or null when nothing changed. EINVAL, EBUSY during a reset, ENOMEM. */
export function replacePasid(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number, hwpt: Ref<'Hwpt'>): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  try {
    const own = find(kernel, group, pasid, device);
    if (own === NULL) fail('EINVAL', 'the device does not have the PASID attached');
    const old = PasidAttachment.hwpt.read(memory, own);
    if (old === hwpt) return NULL;
    checkPasidHwpt(kernel, group, hwpt);
    replaceDevicePasid(kernel, IommufdGroup.group.peek(memory, group), pasid, Hwpt.domain.peek(memory, hwpt));
    const members = move(kernel, group, pasid, old, hwpt);
    addUser(kernel, headerOf(kernel, hwpt), members);
    if (members > 1) dropUser(kernel, headerOf(kernel, old), members - 1);
    return old;
  } finally {
    IommufdGroup.lock.release(memory, group);
  }
}

/** Leaves the slot. Returns the HWPT to put. */
export function detachPasid(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  const own = find(kernel, group, pasid, device);
  const hwpt = PasidAttachment.hwpt.read(memory, own);
  unlink(kernel, group, own);
  if (find(kernel, group, pasid, NULL) === NULL) detachDevicePasid(kernel, IommufdGroup.group.peek(memory, group), pasid);
  kernel.operations.iopf.movePasid(kernel, own, hwpt, NULL);
  PasidAttachment.free(memory, own);
  IommufdGroup.lock.release(memory, group);
  return hwpt;
}

/** Whether the device has the PASID attached. Under no lock: for who keeps others away from the device. */
export function hasPasid(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): boolean {
  const group = IommufdDevice.group.peek(kernel.memory, device);
  IommufdGroup.lock.acquire(kernel.memory, group);
  const found = find(kernel, group, pasid, device);
  IommufdGroup.lock.release(kernel.memory, group);
  return found !== NULL;
}

/** What the group has attached under a PASID, or null. */
export function hwptOfPasid(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): Ref<'Hwpt'> {
  const group = IommufdDevice.group.peek(kernel.memory, device);
  IommufdGroup.lock.acquire(kernel.memory, group);
  const found = find(kernel, group, pasid, NULL);
  const hwpt = found === NULL ? NULL : PasidAttachment.hwpt.read(kernel.memory, found);
  IommufdGroup.lock.release(kernel.memory, group);
  return hwpt;
}

const isForPasids = (kernel: Kernel, hwpt: Ref<'Hwpt'>): boolean => (Hwpt.flags.peek(kernel.memory, hwpt) & HwptFlag.PASID) !== 0;

function checkPasidHwpt(kernel: Kernel, group: Ref<'IommufdGroup'>, hwpt: Ref<'Hwpt'>): void {
  if (!isForPasids(kernel, hwpt)) fail('EINVAL', 'the HWPT is not made for PASIDs');
  const ofRid = IommufdGroup.hwpt.read(kernel.memory, group);
  if (ofRid !== NULL && !isForPasids(kernel, ofRid)) fail('EINVAL', 'the HWPT of the RID is not made for PASIDs');
}

/** The share of a device, or of any with `NULL`. Under the group's lock, as all below. */
function find(kernel: Kernel, group: Ref<'IommufdGroup'>, pasid: number, device: Ref<'IommufdDevice'>): Ref<'PasidAttachment'> {
  const memory = kernel.memory;
  let at: Ref<'PasidAttachment'> = IommufdGroup.pasids.read(memory, group);
  for (; at !== NULL; at = PasidAttachment.next.read(memory, at)) {
    if (PasidAttachment.pasid.peek(memory, at) !== pasid) continue;
    if (device === NULL || PasidAttachment.device.peek(memory, at) === device) return at;
  }
  return at;
}

/** In no list. ENOMEM. */
function createShare(kernel: Kernel, group: Ref<'IommufdGroup'>, device: Ref<'IommufdDevice'>, pasid: number): Ref<'PasidAttachment'> {
  const memory = kernel.memory;
  const added = allocated(PasidAttachment.tryCreate(memory));
  PasidAttachment.group.poke(memory, added, group);
  PasidAttachment.device.poke(memory, added, device);
  PasidAttachment.pasid.poke(memory, added, pasid);
  return added;
}

function link(kernel: Kernel, group: Ref<'IommufdGroup'>, added: Ref<'PasidAttachment'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  PasidAttachment.hwpt.write(memory, added, hwpt);
  PasidAttachment.next.write(memory, added, IommufdGroup.pasids.read(memory, group));
  IommufdGroup.pasids.write(memory, group, added);
}

/** The slot's record, and its page requests. Returns how many members it has. */
function move(kernel: Kernel, group: Ref<'IommufdGroup'>, pasid: number, old: Ref<'Hwpt'>, hwpt: Ref<'Hwpt'>): number {
  const memory = kernel.memory;
  let members = 0;
  for (let at = IommufdGroup.pasids.read(memory, group); at !== NULL; at = PasidAttachment.next.read(memory, at)) {
    if (PasidAttachment.pasid.peek(memory, at) !== pasid) continue;
    PasidAttachment.hwpt.write(memory, at, hwpt);
    kernel.operations.iopf.movePasid(kernel, at, old, hwpt);
    members++;
  }
  return members;
}

function unlink(kernel: Kernel, group: Ref<'IommufdGroup'>, gone: Ref<'PasidAttachment'>): void {
  const memory = kernel.memory;
  const next = PasidAttachment.next.read(memory, gone);
  let at = IommufdGroup.pasids.read(memory, group);
  if (at === gone) IommufdGroup.pasids.write(memory, group, next);
  else {
    while (PasidAttachment.next.read(memory, at) !== gone) at = PasidAttachment.next.read(memory, at);
    PasidAttachment.next.write(memory, at, next);
  }
}
