/**
 * Devices inside iommufd: bind, attach, replace, detach (drivers/iommu/iommufd/device.c, 7.2).
 *
 * The group's attachment record is the truth: one HWPT and the list of members that asked for it. The first member to
 * attach switches the whole group, later ones only join; a replace through any member moves all. Lock order:
 * `Ioas.mutex` -> `IommufdGroup.lock` -> `IommuGroup.mutex`. This is the RID's slot; those of PASIDs are in `iommufd-pasid.ts`.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, Errno, fail } from './errno.ts';
import { DeviceGoes, GroupBlocked, HwptRecorded } from './events.ts';
import { answerForDevice } from './fault-queue.ts';
import { abortHwpt, allocateHwpt, headerOf, Hwpt, hwptId, joinIoas, leaveIoas, putHwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import { attachGroup, claimOwner, detachGroup, IommuGroup, PciDevice, releaseOwner, replaceGroup } from './iommu-group.ts';
import { attachPasid, checkRidHwpt, detachPasid, replacePasid } from './iommufd-pasid.ts';
import { reserve, unreserve } from './iopt.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import {
  addUser, dropUser, dropUserAndDestroy, getObject, Iommufd, IommufdObject, Kind, lockObject, publishObject, putIommufd, putObject,
  reserveObject, type ObjectRef,
} from './objects.ts';

/** iommufd's side of an iommu group, one per context (`struct iommufd_group`). */
export const IommufdGroup = object('IommufdGroup', {
  lock: mutex,
  group: ref('IommuGroup'),
  iommufd: ref('Iommufd'),
  /** Bound devices that use it; under the context's `groupsLock`. */
  references: u32.under('iommufd.groupsLock'),
  next: ref('IommufdGroup').under('iommufd.groupsLock'),
  /** The attachment record of the RID slot: what the members asked for, null when none is attached. */
  hwpt: ref('Hwpt').under('lock'),
  attached: ref('IommufdDevice').under('lock'),
  /** The shares of members in PASID slots. */
  pasids: ref('PasidAttachment').under('lock'),
});

/** A bound device (`struct iommufd_device`). */
export const IommufdDevice = object('IommufdDevice', {
  header: ref('IommufdObject'),
  iommufd: ref('Iommufd'),
  device: ref('PciDevice'),
  group: ref('IommufdGroup'),
  /** It is on the group's list of attached members. */
  attached: u32.under('group.lock'),
  nextAttached: ref('IommufdDevice').under('group.lock'),
  /** The device's own record of its HWPT: what iommufd had before `iommufd_group`; 7.2 has none and leaves it null. */
  hwpt: ref('Hwpt').under('group.lock'),
  /** Its number in a VM, if it has one. */
  vdevice: ref('Vdevice').under('group.lock'),
  /** It is being unbound: no vdevice is made any more. */
  destroying: u32.under('group.lock'),
});

/** The window that x86 reserves for interrupts in every IOAS with a PCI device. */
export const msiWindow = { start: 0xfee00000n, last: 0xfeefffffn } as const;

/**
 * Claims the device's group for the context and makes the DEVICE object (`iommufd_device_bind`). A device of the selftest is
 * an object of the context itself and does not hold it. EPERM, EBUSY, ENOMEM.
 */
export function bindDevice(kernel: Kernel, iommufd: Ref<'Iommufd'>, pci: Ref<'PciDevice'>, holdsContext: boolean = true): Ref<'IommufdDevice'> {
  const group = PciDevice.group.peek(kernel.memory, pci);
  const shared = getGroup(kernel, iommufd, group);
  try {
    if (KernelRoot.unsafeInterrupts.peek(kernel.memory, kernel.root) !== 0) fail('EPERM', 'interrupts are not isolated');
    claimOwner(kernel, group, iommufd);
  } catch (error) {
    putGroup(kernel, shared);
    throw error;
  }
  try {
    return createDevice(kernel, iommufd, pci, shared, holdsContext);
  } catch (error) {
    releaseOwner(kernel, group);
    putGroup(kernel, shared);
    throw error;
  }
}

/** The DEVICE object, published. ENOMEM. */
function createDevice(
  kernel: Kernel, iommufd: Ref<'Iommufd'>, pci: Ref<'PciDevice'>, shared: Ref<'IommufdGroup'>, holdsContext: boolean,
): Ref<'IommufdDevice'> {
  const memory = kernel.memory;
  const device = allocated(IommufdDevice.tryCreate(memory));
  const header = reserveOrFree(kernel, iommufd, device);
  IommufdDevice.header.poke(memory, device, header);
  IommufdDevice.iommufd.poke(memory, device, iommufd);
  IommufdDevice.device.poke(memory, device, pci);
  IommufdDevice.group.poke(memory, device, shared);
  IommufdObject.body.poke(memory, header, device);
  if (holdsContext) Iommufd.references.add(memory, iommufd, 1);
  // The driver's own user: DESTROY of a device id is EBUSY until it unbinds (A9).
  addUser(kernel, header);
  publishObject(kernel, header);
  return device;
}

function reserveOrFree(kernel: Kernel, iommufd: Ref<'Iommufd'>, device: Ref<'IommufdDevice'>): ObjectRef {
  try {
    return reserveObject(kernel, iommufd, Kind.DEVICE);
  } catch (error) {
    IommufdDevice.free(kernel.memory, device);
    throw error;
  }
}

/** The DEVICE with this id, held for the rest of the call. ENOENT. */
export function getDevice(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'IommufdDevice'> {
  return IommufdObject.body.peek(kernel.memory, kernel.hold(getObject(kernel, iommufd, id, Kind.DEVICE))) as Ref<'IommufdDevice'>;
}

/** Unbinds (`iommufd_device_unbind`); the device is detached. Cannot fail: who is inside a call with its id is waited for. */
export function unbindDevice(kernel: Kernel, device: Ref<'IommufdDevice'>, holdsContext: boolean = true): void {
  const memory = kernel.memory;
  const header = IommufdDevice.header.peek(memory, device);
  const iommufd = IommufdDevice.iommufd.peek(memory, device);
  kernel.operations.vdevice.remove(kernel, device);
  dropUserAndDestroy(kernel, header);
  if (holdsContext) putIommufd(kernel, iommufd);
}

/** The destructor (`iommufd_device_destroy`). */
export function destroyDevice(kernel: Kernel, device: Ref<'IommufdDevice'>): void {
  const memory = kernel.memory;
  const shared = IommufdDevice.group.peek(memory, device);
  DeviceGoes.emit(memory, kernel.processNumber, deviceId(kernel, device));
  releaseOwner(kernel, IommufdGroup.group.peek(memory, shared));
  putGroup(kernel, shared);
  IommufdDevice.free(memory, device);
}

function getGroup(kernel: Kernel, iommufd: Ref<'Iommufd'>, group: Ref<'IommuGroup'>): Ref<'IommufdGroup'> {
  const memory = kernel.memory;
  Iommufd.groupsLock.acquire(memory, iommufd);
  let found: Ref<'IommufdGroup'> = Iommufd.groups.read(memory, iommufd);
  while (found !== NULL && IommufdGroup.group.peek(memory, found) !== group) found = IommufdGroup.next.read(memory, found);
  if (found === NULL) found = tryAddGroup(kernel, iommufd, group);
  if (found !== NULL) IommufdGroup.references.write(memory, found, IommufdGroup.references.read(memory, found) + 1);
  Iommufd.groupsLock.release(memory, iommufd);
  return allocated(found);
}

/** The caller holds `groupsLock`. */
function tryAddGroup(kernel: Kernel, iommufd: Ref<'Iommufd'>, group: Ref<'IommuGroup'>): Ref<'IommufdGroup'> {
  const memory = kernel.memory;
  const added = IommufdGroup.tryCreate(memory);
  if (added === NULL) return added;
  IommufdGroup.group.poke(memory, added, group);
  IommufdGroup.iommufd.poke(memory, added, iommufd);
  IommufdGroup.next.poke(memory, added, Iommufd.groups.read(memory, iommufd));
  Iommufd.groups.write(memory, iommufd, added);
  return added;
}

function putGroup(kernel: Kernel, shared: Ref<'IommufdGroup'>): void {
  const memory = kernel.memory;
  const iommufd = IommufdGroup.iommufd.peek(memory, shared);
  Iommufd.groupsLock.acquire(memory, iommufd);
  const references = IommufdGroup.references.read(memory, shared) - 1;
  IommufdGroup.references.write(memory, shared, references);
  if (references === 0) unlinkGroup(kernel, iommufd, shared);
  Iommufd.groupsLock.release(memory, iommufd);
  if (references === 0) IommufdGroup.free(memory, shared);
}

function unlinkGroup(kernel: Kernel, iommufd: Ref<'Iommufd'>, shared: Ref<'IommufdGroup'>): void {
  const memory = kernel.memory;
  const next = IommufdGroup.next.read(memory, shared);
  let at = Iommufd.groups.read(memory, iommufd);
  if (at === shared) {
    Iommufd.groups.write(memory, iommufd, next);
    return;
  }
  while (IommufdGroup.next.read(memory, at) !== shared) at = IommufdGroup.next.read(memory, at);
  IommufdGroup.next.write(memory, at, next);
}

/** What `changePt` does with the HWPT it found. */
export const Change = { ATTACH: 0, REPLACE: 1 } as const;

/** The slot of requests without a PASID. */
export const RID_SLOT = 0;

/** What is asked of a device: the kind of change, and the slot, which is a PASID or `RID_SLOT`. */
export interface SlotChange {
  readonly change: number;
  readonly pasid: number;
}

/** What came of it: the HWPT whose user the caller has to drop, or null, and the id of the one in force. */
export interface Changed {
  readonly old: Ref<'Hwpt'>;
  readonly id: number;
}

/**
 * Attaches or replaces (`iommufd_device_change_pt`): `ptId` names an HWPT, or an IOAS, for which an automatic HWPT is
 * found or made. Returns the id of the HWPT in force. ENOENT, EINVAL, EADDRINUSE, EBUSY, ENOMEM.
 */
export function changePt(kernel: Kernel, device: Ref<'IommufdDevice'>, ptId: number, change: number, pasid: number = RID_SLOT): number {
  const memory = kernel.memory;
  const asked: SlotChange = { change, pasid };
  const target = getObject(kernel, IommufdDevice.iommufd.peek(memory, device), ptId, Kind.ANY);
  let old: Ref<'Hwpt'> = NULL;
  let id = ptId;
  try {
    const kind = IommufdObject.kind.peek(memory, target);
    if (kind === Kind.HWPT || kind === Kind.NESTED_HWPT) old = changeTo(kernel, device, IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>, asked);
    else if (kind === Kind.IOAS) {
      const result = changeToIoas(kernel, device, IommufdObject.body.peek(memory, target) as Ref<'Ioas'>, asked);
      old = result.old;
      id = result.id;
    } else fail('EINVAL', `object ${ptId} is neither an IOAS nor an HWPT`);
  } finally {
    putObject(kernel, target);
  }
  // An attachment holds the DEVICE object itself: destroying it while attached would be its driver's bug (A9).
  if (change === Change.ATTACH) addUser(kernel, IommufdDevice.header.peek(memory, device));
  if (old !== NULL) putHwpt(kernel, old);
  return id;
}

/** Returns the HWPT whose user the caller has to drop, or null. */
function changeTo(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, { change, pasid }: SlotChange): Ref<'Hwpt'> {
  const { attach: ofRid } = kernel.operations;
  if (change === Change.REPLACE) return pasid === RID_SLOT ? ofRid.replace(kernel, device, hwpt) : replacePasid(kernel, device, pasid, hwpt);
  if (pasid === RID_SLOT) ofRid.attach(kernel, device, hwpt);
  else attachPasid(kernel, device, pasid, hwpt);
  return NULL;
}

/** Takes the device out of a slot (`iommufd_device_detach`). */
export function detachSlot(kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): void {
  putHwpt(kernel, leaveSlot(kernel, device, pasid));
  dropUser(kernel, IommufdDevice.header.peek(kernel.memory, device));
}

const leaveSlot = (kernel: Kernel, device: Ref<'IommufdDevice'>, pasid: number): Ref<'Hwpt'> =>
  pasid === RID_SLOT ? kernel.operations.attach.detach(kernel, device) : detachPasid(kernel, device, pasid);

/** Tries every automatic HWPT of the IOAS, then makes one (`iommufd_device_auto_get_domain`). */
function changeToIoas(kernel: Kernel, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>, asked: SlotChange): Changed {
  const memory = kernel.memory;
  Ioas.mutex.acquire(memory, ioas);
  try {
    for (let hwpt = Ioas.hwpts.read(memory, ioas); hwpt !== NULL; hwpt = Hwpt.next.read(memory, hwpt)) {
      if (Hwpt.automatic.load(memory, hwpt) === 0) continue;
      const changed = kernel.operations.attach.tryAutomatic(kernel, device, hwpt, asked);
      if (changed !== null) return changed;
    }
    return makeAutomatic(kernel, device, ioas, asked);
  } finally {
    Ioas.mutex.release(memory, ioas);
  }
}

/** One automatic HWPT, held meanwhile; null when it is being destroyed or does not suit the device. */
export function tryAutomatic(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Changed | null {
  if (!lockObject(kernel, headerOf(kernel, hwpt))) return null;
  try {
    return changeIfSuited(kernel, device, hwpt, asked);
  } finally {
    putObject(kernel, headerOf(kernel, hwpt));
  }
}

/** Null when the HWPT does not suit the device; the next may. */
export function changeIfSuited(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Changed | null {
  try {
    return { old: changeTo(kernel, device, hwpt, asked), id: hwptId(kernel, hwpt) };
  } catch (error) {
    if (error instanceof Errno && error.name === 'EINVAL') return null;
    throw error;
  }
}

/** An attach switches the group before the new domain is filled ("immediate attach"), a replace after it. */
function makeAutomatic(kernel: Kernel, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>, asked: SlotChange): Changed {
  const hwpt = allocateHwpt(kernel, device, ioas);
  let old: Ref<'Hwpt'> = NULL;
  if (asked.change === Change.ATTACH) attachThenFill(kernel, device, hwpt, asked);
  else old = fillThenReplace(kernel, device, hwpt, asked);
  Hwpt.automatic.store(kernel.memory, hwpt, 1);
  publishObject(kernel, headerOf(kernel, hwpt));
  return { old, id: hwptId(kernel, hwpt) };
}

function attachThenFill(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): void {
  let attached = false;
  try {
    changeTo(kernel, device, hwpt, asked);
    attached = true;
    joinIoas(kernel, hwpt);
  } catch (error) {
    if (attached) {
      leaveSlot(kernel, device, asked.pasid);
      dropUser(kernel, headerOf(kernel, hwpt));
    }
    abortHwpt(kernel, hwpt);
    throw error;
  }
}

function fillThenReplace(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Ref<'Hwpt'> {
  try {
    joinIoas(kernel, hwpt);
  } catch (error) {
    abortHwpt(kernel, hwpt);
    throw error;
  }
  try {
    return changeTo(kernel, device, hwpt, asked);
  } catch (error) {
    leaveIoas(kernel, hwpt);
    abortHwpt(kernel, hwpt);
    throw error;
  }
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
    answerRequests(kernel, group, old);
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
  if (queue !== NULL) answerForDevice(kernel, queue, device);
  IommufdGroup.lock.release(memory, group);
  return hwpt;
}

/** The members leave an HWPT: nobody answers any more what they asked through it. Under the group's lock. */
function answerRequests(kernel: Kernel, group: Ref<'IommufdGroup'>, hwpt: Ref<'Hwpt'>): void {
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

/** The device's reserved regions (of VT-d the interrupt window) become the IOAS's. EADDRINUSE when one is in use. */
export function reserveForDevice(kernel: Kernel, ioas: Ref<'Ioas'>, device: Ref<'IommufdDevice'>): void {
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  try {
    const pci = IommufdDevice.device.peek(kernel.memory, device);
    for (const { first, last } of kernel.driver.reservedRegions(PciDevice.function.peek(kernel.memory, pci))) {
      reserve(kernel, ioas, BigInt(first), BigInt(last), device);
    }
  } catch (error) {
    unreserve(kernel, ioas, device);
    throw error;
  } finally {
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

export function unreserveForDevice(kernel: Kernel, ioas: Ref<'Ioas'>, device: Ref<'IommufdDevice'>): void {
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  unreserve(kernel, ioas, device);
  Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
}

/** Step 3: every attached member's regions, or none of them. */
export function reserveForMembers(kernel: Kernel, group: Ref<'IommufdGroup'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  let at = IommufdGroup.attached.read(memory, group);
  try {
    for (; at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) reserveForDevice(kernel, ioas, at);
  } catch (error) {
    for (let undo = IommufdGroup.attached.read(memory, group); undo !== at; undo = IommufdDevice.nextAttached.read(memory, undo)) {
      unreserveForDevice(kernel, ioas, undo);
    }
    throw error;
  }
}

export function unreserveForMembers(kernel: Kernel, group: Ref<'IommufdGroup'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  for (let at = IommufdGroup.attached.read(memory, group); at !== NULL; at = IommufdDevice.nextAttached.read(memory, at)) {
    unreserveForDevice(kernel, ioas, at);
  }
}

export const groupNumber = (kernel: Kernel, group: Ref<'IommufdGroup'>): number =>
  IommuGroup.number.peek(kernel.memory, IommufdGroup.group.peek(kernel.memory, group));

export const deviceId = (kernel: Kernel, device: Ref<'IommufdDevice'>): number =>
  IommufdObject.id.peek(kernel.memory, IommufdDevice.header.peek(kernel.memory, device));
