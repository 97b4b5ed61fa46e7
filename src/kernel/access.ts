/**
 * ACCESS objects: the kernel's own way into an IOAS, for devices whose DMA is done by software (`iommufd_access_*`, device.c; SEMANTICS
 * a.4). An access pins pages or copies bytes (`access-pin.ts`); an unmap of pinned pages calls its owner back, with the locks dropped. An
 * internal one, of a hardware queue, has no owner: what it pins cannot be unmapped.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { checkAlignment, wantedAlignment } from './iopt-alignment.ts';
import type { Kernel } from './kernel.ts';
import {
  abortObject, addUser, dropUser, dropUserAndDestroy, getObject, holdIommufd, IommufdObject, Kind, lockObject, publishObject, putIommufd, putObject, reserveObject,
} from './objects.ts';
import { unmapTestAccess } from './selftest/test-access.ts';
import { PAGE, U64_MAX } from './u64.ts';

export const Access = object('Access', {
  header: ref('IommufdObject'),
  iommufd: ref('Iommufd'),
  lock: mutex,
  /** Where pins and copies go; null while detached or being replaced. */
  ioas: ref('Ioas').under('lock'),
  /** Where what is pinned was pinned. */
  ioasOfPins: ref('Ioas').under('lock'),
  /** Its owner pins pages, and is told when they are unmapped. */
  pins: u32,
  /** Null of an internal one. */
  owner: ref('TestAccess'),
});

/** An access of an IOAS; during a replace one access is in two. */
export const IoptAccess = object('IoptAccess', { access: ref('Access'), next: ref('IoptAccess') });

/** A new access, attached to nothing, held by its owner (`iommufd_access_create`). ENOMEM. */
export function createAccess(kernel: Kernel, iommufd: Ref<'Iommufd'>, pins: boolean, owner: Ref<'TestAccess'>): Ref<'Access'> {
  const access = makeAccess(kernel, iommufd, Kind.ACCESS, pins);
  Access.owner.poke(kernel.memory, access, owner);
  holdIommufd(kernel, iommufd);
  publishObject(kernel, Access.header.peek(kernel.memory, access));
  return access;
}

/**
 * An internal access, attached to nothing (`iommufd_access_create_internal`). The object that it pins for dies with the context at the
 * latest, so it does not hold the context. ENOMEM.
 */
export function createInternalAccess(kernel: Kernel, iommufd: Ref<'Iommufd'>): Ref<'Access'> {
  const access = makeAccess(kernel, iommufd, Kind.HW_QUEUE_ACCESS, true);
  publishObject(kernel, Access.header.peek(kernel.memory, access));
  return access;
}

/** Its id is reserved, and its maker holds it. ENOMEM. */
function makeAccess(kernel: Kernel, iommufd: Ref<'Iommufd'>, kind: Kind, pins: boolean): Ref<'Access'> {
  const memory = kernel.memory;
  const header = reserveObject(kernel, iommufd, kind);
  const access = Access.tryCreate(memory);
  if (access === NULL) abortObject(kernel, header);
  Access.header.poke(memory, allocated(access), header);
  Access.iommufd.poke(memory, access, iommufd);
  Access.pins.poke(memory, access, pins ? 1 : 0);
  IommufdObject.body.poke(memory, header, access);
  addUser(kernel, header);
  return access;
}

/** Nobody is told when what it has pinned is to be unmapped (`iommufd_access_is_internal`). */
export const isInternal = (kernel: Kernel, access: Ref<'Access'>): boolean => Access.owner.peek(kernel.memory, access) === NULL;

/** Detaches it and destroys the object (`iommufd_access_destroy`). Cannot fail. */
export function removeAccess(kernel: Kernel, access: Ref<'Access'>): void {
  const iommufd = Access.iommufd.peek(kernel.memory, access);
  dropUserAndDestroy(kernel, Access.header.peek(kernel.memory, access));
  putIommufd(kernel, iommufd);
}

/** The same for an internal one, which has nothing pinned any more (`iommufd_access_destroy_internal`). Cannot fail. */
export function removeInternalAccess(kernel: Kernel, access: Ref<'Access'>): void {
  dropUserAndDestroy(kernel, Access.header.peek(kernel.memory, access));
}

/** The destructor (`iommufd_access_destroy_object`). */
export function destroyAccess(kernel: Kernel, access: Ref<'Access'>): void {
  Access.lock.acquire(kernel.memory, access);
  if (Access.ioas.read(kernel.memory, access) !== NULL) change(kernel, access, NULL);
  Access.lock.release(kernel.memory, access);
  Access.free(kernel.memory, access);
}

/** EINVAL when it is attached, ENOENT, and EADDRINUSE when something mapped does not fit its alignment. */
export function attachAccess(kernel: Kernel, access: Ref<'Access'>, ioasId: number): void {
  Access.lock.acquire(kernel.memory, access);
  try {
    if (Access.ioasOfPins.read(kernel.memory, access) !== NULL) fail('EINVAL', 'the access is attached');
    changeToId(kernel, access, ioasId);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

/** To an IOAS that the caller knows to be alive (`iommufd_access_attach_internal`). EADDRINUSE, ENOMEM. */
export function attachInternalAccess(kernel: Kernel, access: Ref<'Access'>, ioas: Ref<'Ioas'>): void {
  Access.lock.acquire(kernel.memory, access);
  try {
    change(kernel, access, ioas);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

/** Its pins are lost through the owner's callback. ENOENT, also for an access that is not attached, and EADDRINUSE. */
export function replaceAccess(kernel: Kernel, access: Ref<'Access'>, ioasId: number): void {
  Access.lock.acquire(kernel.memory, access);
  try {
    if (Access.ioas.read(kernel.memory, access) === NULL) fail('ENOENT', 'the access is not attached');
    changeToId(kernel, access, ioasId);
  } finally {
    Access.lock.release(kernel.memory, access);
  }
}

function changeToId(kernel: Kernel, access: Ref<'Access'>, ioasId: number): void {
  const memory = kernel.memory;
  const target = getObject(kernel, Access.iommufd.peek(memory, access), ioasId, Kind.IOAS);
  try {
    change(kernel, access, IommufdObject.body.peek(memory, target) as Ref<'Ioas'>);
  } finally {
    putObject(kernel, target);
  }
}

/**
 * From one IOAS to another, or to none (`iommufd_access_change_ioas`). Under `Access.lock`, which is dropped for the owner's callback:
 * meanwhile the access has no IOAS, and only unpins.
 */
function change(kernel: Kernel, access: Ref<'Access'>, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  const old = Access.ioas.read(memory, access);
  if (old !== Access.ioasOfPins.read(memory, access)) fail('EBUSY', 'the access is being moved');
  if (old === ioas) return;
  Access.ioas.write(memory, access, NULL);
  try {
    if (ioas !== NULL) addToIoas(kernel, ioas, access);
  } catch (error) {
    Access.ioas.write(memory, access, old);
    throw error;
  }
  if (old !== NULL) leave(kernel, access, old);
  Access.ioasOfPins.write(memory, access, ioas);
  Access.ioas.write(memory, access, ioas);
}

function leave(kernel: Kernel, access: Ref<'Access'>, old: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  if (Access.pins.peek(memory, access) !== 0 && !isInternal(kernel, access)) {
    Access.lock.release(memory, access);
    unmapTestAccess(kernel, Access.owner.peek(memory, access), 0n, U64_MAX);
    Access.lock.acquire(memory, access);
  }
  removeFromIoas(kernel, old, access);
}

/** Joins the IOAS's list; one that pins needs whole pages (`iopt_add_access`). EADDRINUSE, ENOMEM. */
function addToIoas(kernel: Kernel, ioas: Ref<'Ioas'>, access: Ref<'Access'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const alignment = Math.max(Ioas.alignment.read(memory, ioas), Access.pins.peek(memory, access) === 0 ? 1 : Number(PAGE));
    checkAlignment(kernel, ioas, alignment);
    const link = allocated(IoptAccess.tryCreate(memory));
    IoptAccess.access.poke(memory, link, access);
    IoptAccess.next.poke(memory, link, Ioas.accesses.read(memory, ioas));
    Ioas.accesses.write(memory, ioas, link);
    Ioas.alignment.write(memory, ioas, alignment);
    addUser(kernel, Ioas.header.peek(memory, ioas));
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
    Ioas.domainsRwsem.releaseWrite(memory, ioas);
  }
}

function removeFromIoas(kernel: Kernel, ioas: Ref<'Ioas'>, access: Ref<'Access'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  let before: Ref<'IoptAccess'> = NULL;
  let link: Ref<'IoptAccess'> = Ioas.accesses.read(memory, ioas);
  while (IoptAccess.access.peek(memory, link) !== access) {
    before = link;
    link = IoptAccess.next.peek(memory, link);
  }
  const next = IoptAccess.next.peek(memory, link);
  if (before === NULL) Ioas.accesses.write(memory, ioas, next);
  else IoptAccess.next.poke(memory, before, next);
  IoptAccess.free(memory, link);
  Ioas.alignment.write(memory, ioas, wantedAlignment(kernel, ioas));
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  Ioas.domainsRwsem.releaseWrite(memory, ioas);
  dropUser(kernel, Ioas.header.peek(memory, ioas));
}

/** The largest alignment that an access of the IOAS asks for. Under `iovaRwsem`. */
export function alignmentOfAccesses(kernel: Kernel, ioas: Ref<'Ioas'>): number {
  let link: Ref<'IoptAccess'> = Ioas.accesses.read(kernel.memory, ioas);
  for (; link !== NULL; link = IoptAccess.next.peek(kernel.memory, link)) {
    if (Access.pins.peek(kernel.memory, IoptAccess.access.peek(kernel.memory, link)) !== 0) return Number(PAGE);
  }
  return 1;
}

/** Asks every access that pins and has an owner to let go of a range (`iommufd_access_notify_unmap`). No lock of the IOAS is held. */
export function notifyAccesses(kernel: Kernel, ioas: Ref<'Ioas'>, iova: bigint, length: bigint): void {
  for (const access of kernel.operations.access.holdAsked(kernel, ioas)) {
    unmapTestAccess(kernel, Access.owner.peek(kernel.memory, access), iova, length);
    putObject(kernel, Access.header.peek(kernel.memory, access));
  }
}

/** An internal access has nobody to ask. */
export function holdAsked(kernel: Kernel, ioas: Ref<'Ioas'>): Ref<'Access'>[] {
  const memory = kernel.memory;
  const held: Ref<'Access'>[] = [];
  Ioas.iovaRwsem.acquireRead(memory, ioas);
  for (let link: Ref<'IoptAccess'> = Ioas.accesses.read(memory, ioas); link !== NULL; link = IoptAccess.next.peek(memory, link)) {
    const access = IoptAccess.access.peek(memory, link);
    const isAsked = Access.pins.peek(memory, access) !== 0 && !isInternal(kernel, access);
    if (isAsked && lockObject(kernel, Access.header.peek(memory, access))) held.push(access);
  }
  Ioas.iovaRwsem.releaseRead(memory, ioas);
  return held;
}
