/**
 * iommufd's object table: ids, users and wait counts (`struct iommufd_object`, drivers/iommu/iommufd/main.c).
 *
 * `users` is 1 for the table plus every referrer; DESTROY refuses unless it is 1. `waitCount` is 1 plus those who are
 * inside a call with the object; destruction waits for it. An object is reserved (its id taken, nobody finds it)
 * before the work, and published after it.
 *
 *   reserved -> published by `publishObject`;  reserved -> gone by `abortObject`;  published -> gone by `destroyObject`
 */
import { idTable } from '#hostmem/id-table';
import { mutex, waitWord } from '#hostmem/locks';
import { Until } from '#hostmem/atomics';
import { NULL, UseAfterFree, type Ref } from '#hostmem/object';
import { extension, object, onNewLine, ref, u32 } from '#hostmem/struct';
import { destroyAccess } from './access.ts';
import { allocated, assert, fail } from './errno.ts';
import { DestroyRefused, ObjectErased, ObjectPublished } from './events.ts';
import { putFile } from './file.ts';
import type { Kernel } from './kernel.ts';
import { File, holdFile } from './open-file.ts';
import { Process } from './process.ts';
import { destroyTestDevice } from './selftest/test-device.ts';

/** `enum iommufd_object_type`. */
export const Kind = {
  ANY: 0, IOAS: 1, HWPT: 2, DEVICE: 3, FAULT_QUEUE: 4, NESTED_HWPT: 5, VIOMMU: 6, VDEVICE: 7, EVENT_QUEUE: 8, HW_QUEUE: 9, HW_QUEUE_ACCESS: 10, ACCESS: 11,
  SELFTEST: 12,
} as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

/** What messages call them, by kind. */
export const kindNames: readonly string[] = [
  'object', 'IOAS', 'HWPT', 'device', 'fault queue', 'nested HWPT', 'vIOMMU', 'vdevice', 'event queue', 'hardware queue', 'access of a hardware queue',
  'access', 'device of the selftest',
];

/**
 * One open of /dev/iommu (`struct iommufd_ctx`): the file itself, which each bound device, access and file of a queue holds too. It is also the owner
 * token of DMA ownership.
 */
export const Iommufd = extension(File, 'Iommufd', {
  /** Behind the count, which every call writes as well. */
  objects: idTable,
  groupsLock: onNewLine(mutex),
  groups: ref('IommufdGroup').under('groupsLock'),
  process: ref('Process'),
  /** The IOAS that stands for a VFIO container; null before a legacy group asks for one. */
  compatIoas: ref('Ioas'),
  /** `AccountMode` of the pages that are mapped from now on; it changes only while there is no object. */
  accountMode: u32,
  mmapLock: mutex,
  /** What mmap(2) of the file shows, by offset. */
  shownRegisters: ref('ShownRegisters').under('mmapLock'),
});

/** The same thing as a file. */
export const fileOf = (iommufd: Ref<'Iommufd'>): Ref<'File'> => iommufd as number as Ref<'File'>;

/** Whom IOMMU_OPTION makes pay for pinned pages: the user, or the process as locked memory. */
export const AccountMode = { USER: 0, PROCESS: 1 } as const;

export const IommufdObject = object('IommufdObject', {
  kind: u32,
  users: u32,
  waitCount: waitWord,
  id: u32,
  iommufd: ref('Iommufd'),
  /** The record of the kind: `Ioas`, `Hwpt`, `IommufdDevice`. */
  body: u32,
});

export type ObjectRef = Ref<'IommufdObject'>;

/** Reserves an id and makes the object that will stand behind it. ENOMEM. */
export function reserveObject(kernel: Kernel, iommufd: Ref<'Iommufd'>, kind: Kind): ObjectRef {
  const memory = kernel.memory;
  const created = allocated(IommufdObject.tryCreate(memory));
  const id = Iommufd.objects.reserve(memory, iommufd);
  if (id === 0) {
    IommufdObject.free(memory, created);
    fail('ENOMEM', 'no id is left');
  }
  IommufdObject.kind.poke(memory, created, kind);
  IommufdObject.users.poke(memory, created, 1);
  IommufdObject.waitCount.poke(memory, created, 1);
  IommufdObject.id.poke(memory, created, id);
  IommufdObject.iommufd.poke(memory, created, iommufd);
  return created;
}

/** From here on other threads find it, and may destroy it at once (`iommufd_object_finalize`). Returns its id. */
export function publishObject(kernel: Kernel, target: ObjectRef): number {
  const memory = kernel.memory;
  const iommufd = IommufdObject.iommufd.peek(memory, target);
  const id = IommufdObject.id.peek(memory, target);
  Iommufd.objects.acquire(memory, iommufd);
  Iommufd.objects.publishLocked(memory, iommufd, id, target);
  ObjectPublished.emit(memory, ownerOf(kernel, iommufd), id, IommufdObject.kind.peek(memory, target));
  Iommufd.objects.release(memory, iommufd);
  return id;
}

/** Nobody new gets it from here on. */
function tellEnd(kernel: Kernel, target: ObjectRef): void {
  const memory = kernel.memory;
  ObjectErased.emit(memory, ownerOf(kernel, IommufdObject.iommufd.peek(memory, target)), IommufdObject.id.peek(memory, target));
}

/** The process that a context belongs to, by its number. */
const ownerOf = (kernel: Kernel, iommufd: Ref<'Iommufd'>): number => Process.number.peek(kernel.memory, Iommufd.process.peek(kernel.memory, iommufd));

/** Takes a reservation back (`iommufd_object_abort`); the body is the caller's to free. */
export function abortObject(kernel: Kernel, target: ObjectRef): void {
  const memory = kernel.memory;
  Iommufd.objects.erase(memory, IommufdObject.iommufd.peek(memory, target), IommufdObject.id.peek(memory, target));
  IommufdObject.free(memory, target);
}

/**
 * Raises both counts unless the object is being destroyed (`iommufd_lock_obj`). The caller holds the table's lock, or knows by
 * other means that the record is alive: the user that is taken back must not be the one that makes a destruction busy.
 */
export function lockObject(kernel: Kernel, target: ObjectRef): boolean {
  const memory = kernel.memory;
  if (IommufdObject.users.addUnlessZero(memory, target, 1) === 0) return false;
  if (IommufdObject.waitCount.addUnlessZero(memory, target, 1) !== 0) return true;
  IommufdObject.users.add(memory, target, -1);
  return false;
}

/**
 * The object behind an id, held until `putObject` (the dispatcher's, for what `kernel.get` got). ENOENT when it is
 * absent, unpublished, of another kind or being destroyed (`iommufd_get_object`).
 */
export function getObject(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number, kind: Kind): ObjectRef {
  const memory = kernel.memory;
  Iommufd.objects.acquire(memory, iommufd);
  const found = Iommufd.objects.getLocked(memory, iommufd, id) as ObjectRef;
  const right = found !== NULL && (kind === Kind.ANY || IommufdObject.kind.peek(memory, found) === kind);
  const locked = right && lockObject(kernel, found);
  Iommufd.objects.release(memory, iommufd);
  if (!locked) fail('ENOENT', `there is no ${kindNames[kind]} with id ${id}`);
  return found;
}

/** `users` first: whoever sees `waitCount` reach zero may free the object (`iommufd_put_object`). */
export function putObject(kernel: Kernel, target: ObjectRef): void {
  const before = IommufdObject.users.add(kernel.memory, target, -1);
  assert(before > 1, `users of object ${target} fell to ${before - 1} by a put`);
  IommufdObject.waitCount.add(kernel.memory, target, -1);
}

/** A long-lived edge to the object. The caller knows that it is alive: whoever is wrong sees what `refcount_inc` warns of. */
export function addUser(kernel: Kernel, target: ObjectRef, count: number = 1): void {
  const memory = kernel.memory;
  if (IommufdObject.users.add(memory, target, count) > 0) return;
  throw new UseAfterFree(`addition on 0: object ${IommufdObject.id.peek(memory, target)} had no users any more, somebody is destroying it`);
}

export function dropUser(kernel: Kernel, target: ObjectRef, count: number = 1): void {
  const before = IommufdObject.users.add(kernel.memory, target, -count);
  assert(before > count, `users of object ${target} fell to ${before - count}`);
}

/** DESTROY: erases and destroys the object if nobody but the table uses it (`iommufd_object_remove`); raises no count. ENOENT, EBUSY. */
export function removeObject(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): void {
  const memory = kernel.memory;
  Iommufd.objects.acquire(memory, iommufd);
  const found = Iommufd.objects.getLocked(memory, iommufd, id) as ObjectRef;
  const erased = found !== NULL && eraseUnused(kernel, found);
  Iommufd.objects.release(memory, iommufd);
  if (found === NULL) fail('ENOENT', `there is no object with id ${id}`);
  if (!erased) fail('EBUSY', `object ${id} is in use`);
  waitForCalls(kernel, found);
  destroyErased(kernel, found);
}

/**
 * Drops the caller's user and destroys the object if that was the last (`iommufd_object_put_and_try_destroy`). One that
 * somebody else holds at this instant, or that is not published yet, survives and stays destroyable (A10).
 */
export function dropUserAndTryDestroy(kernel: Kernel, target: ObjectRef): void {
  const erased = dropAndErase(kernel, target);
  if (!erased) return;
  waitForCalls(kernel, target);
  destroyErased(kernel, target);
}

/**
 * Drops the caller's user and destroys the object, which nobody else may hold but for the length of a call
 * (`iommufd_object_destroy_user`): those are waited for first, and nobody gets in any more, so that it cannot fail (O3).
 */
export function dropUserAndDestroy(kernel: Kernel, target: ObjectRef): void {
  tellEnd(kernel, target);
  waitForCalls(kernel, target);
  mustSucceed(kernel, target, dropAndErase(kernel, target));
  destroyErased(kernel, target);
}

/**
 * As `dropUserAndDestroy`, but the id stays taken and is found no more until the context goes (`iommufd_object_tombstone_user`).
 */
export function buryObject(kernel: Kernel, target: ObjectRef): void {
  const memory = kernel.memory;
  const iommufd = IommufdObject.iommufd.peek(memory, target);
  tellEnd(kernel, target);
  waitForCalls(kernel, target);
  Iommufd.objects.acquire(memory, iommufd);
  dropUser(kernel, target);
  const unused = IommufdObject.users.compareExchange(memory, target, 1, 0) === 1;
  if (unused) Iommufd.objects.tombstoneLocked(memory, iommufd, IommufdObject.id.peek(memory, target));
  Iommufd.objects.release(memory, iommufd);
  mustSucceed(kernel, target, unused);
  destroyErased(kernel, target);
}

/** What Linux warns of before it leaks the object. */
function mustSucceed(kernel: Kernel, target: ObjectRef, erased: boolean): void {
  if (erased) return;
  const memory = kernel.memory;
  const users = IommufdObject.users.load(memory, target);
  DestroyRefused.emit(memory, IommufdObject.kind.peek(memory, target), IommufdObject.id.peek(memory, target), users);
  assert(false, `object ${IommufdObject.id.peek(memory, target)} is in use although its owner destroys it`);
}

/** Drops the caller's user and takes the object out of the table if only the table is left. */
export function dropAndErase(kernel: Kernel, target: ObjectRef): boolean {
  const memory = kernel.memory;
  const iommufd = IommufdObject.iommufd.peek(memory, target);
  Iommufd.objects.acquire(memory, iommufd);
  dropUser(kernel, target);
  const published = Iommufd.objects.getLocked(memory, iommufd, IommufdObject.id.peek(memory, target)) === target;
  const erased = published && eraseUnused(kernel, target);
  Iommufd.objects.release(memory, iommufd);
  return erased;
}

/** Takes it out of the table if only the table uses it. The caller holds the table's lock. */
export function eraseUnused(kernel: Kernel, target: ObjectRef): boolean {
  const memory = kernel.memory;
  if (IommufdObject.users.compareExchange(memory, target, 1, 0) !== 1) return false;
  tellEnd(kernel, target);
  Iommufd.objects.eraseLocked(memory, IommufdObject.iommufd.peek(memory, target), IommufdObject.id.peek(memory, target));
  return true;
}

/** Lets nobody in any more and waits until all who were in are out. */
export function waitForCalls(kernel: Kernel, target: ObjectRef): void {
  IommufdObject.waitCount.add(kernel.memory, target, -1);
  IommufdObject.waitCount.waitUntil(kernel.memory, target, Until.EQUAL, 0);
}

/** Runs the destructor of an object that is in no table any more, and frees it. */
export function destroyErased(kernel: Kernel, target: ObjectRef): void {
  destroyBody(kernel, target);
  IommufdObject.free(kernel.memory, target);
}

function destroyBody(kernel: Kernel, target: ObjectRef): void {
  const kind = IommufdObject.kind.peek(kernel.memory, target);
  const body = IommufdObject.body.peek(kernel.memory, target);
  const objects = kernel.operations.objects;
  if (kind === Kind.IOAS) objects.destroyIoas(kernel, body as Ref<'Ioas'>);
  else if (kind === Kind.HWPT) objects.destroyHwpt(kernel, body as Ref<'Hwpt'>);
  else if (kind === Kind.FAULT_QUEUE) objects.destroyFaultQueue(kernel, body as Ref<'FaultQueue'>);
  else if (kind === Kind.ACCESS || kind === Kind.HW_QUEUE_ACCESS) destroyAccess(kernel, body as Ref<'Access'>);
  else if (kind === Kind.SELFTEST) destroyTestDevice(kernel, body as Ref<'TestDevice'>);
  else if (kind === Kind.NESTED_HWPT) objects.destroyNestedHwpt(kernel, body as Ref<'Hwpt'>);
  else if (kind === Kind.VIOMMU) objects.destroyViommu(kernel, body as Ref<'Viommu'>);
  else if (kind === Kind.VDEVICE) objects.destroyVdevice(kernel, body as Ref<'Vdevice'>);
  else if (kind === Kind.EVENT_QUEUE) objects.destroyEventQueue(kernel, body as Ref<'EventQueue'>);
  else if (kind === Kind.HW_QUEUE) objects.destroyHwQueue(kernel, body as Ref<'HwQueue'>);
  else objects.destroyDevice(kernel, body as Ref<'IommufdDevice'>);
}

/** `iommufd_ctx_get`. */
export function holdIommufd(kernel: Kernel, iommufd: Ref<'Iommufd'>): void {
  holdFile(kernel, fileOf(iommufd));
}

/** `iommufd_ctx_put`. */
export function putIommufd(kernel: Kernel, iommufd: Ref<'Iommufd'>): void {
  putFile(kernel, fileOf(iommufd));
}

/** Nobody has the context any more (`iommufd_fops_release`). */
export function releaseIommufd(kernel: Kernel, iommufd: Ref<'Iommufd'>): void {
  sweep(kernel, iommufd);
  Iommufd.objects.destroy(kernel.memory, iommufd);
}

/** Destroys leaves first until nothing is left. A pass that destroys nothing is a bug. */
function sweep(kernel: Kernel, iommufd: Ref<'Iommufd'>): void {
  const memory = kernel.memory;
  for (;;) {
    let seen = 0;
    let destroyed = 0;
    for (let id = Iommufd.objects.next(memory, iommufd, 0); id !== 0; id = Iommufd.objects.next(memory, iommufd, id)) {
      const target = Iommufd.objects.get(memory, iommufd, id) as ObjectRef;
      seen++;
      if (IommufdObject.users.load(memory, target) !== 1) continue;
      removeObject(kernel, iommufd, id);
      destroyed++;
    }
    if (seen === 0) return;
    assert(destroyed > 0, `closing the context leaves ${seen} objects that hold each other`);
  }
}

