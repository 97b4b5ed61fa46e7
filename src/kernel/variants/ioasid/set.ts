/**
 * The design that lost (seed 001): `ioasid_set` V4, as far as the argument was about it. The kernel hands out PASIDs from one space; each belongs to the
 * set of a VM, and who binds one is checked against his set, not against a descriptor. Who has to know of BIND and UNBIND is called back: VFIO, which then
 * takes its device's lock to change the device. A reconstruction from the argument, no transcription of the series.
 *
 * Lock order of calls from above: `DevSet.lock` -> `KernelRoot.ioasidLock` (VFIO asks for a number while it holds its device).
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from '../../errno.ts';
import { KernelRoot, type Kernel } from '../../kernel.ts';
import { authorisePasid, revokePasid } from '../../pasid-authority.ts';
import { Process } from '../../process.ts';
import { DevSet, granted, VfioDevice } from '../../vfio.ts';

/** The PASIDs of a VM. Under `KernelRoot.ioasidLock`, as all here. */
const IoasidSet = object('IoasidSet', { first: ref('Ioasid'), count: u32 });
const Ioasid = object('Ioasid', { pasid: u32, next: ref('Ioasid') });
/** An UNBIND that a handler has yet to carry out. */
const IoasidBond = object('IoasidBond', { file: ref('VfioFile'), pasid: u32, next: ref('IoasidBond') });

const firstIoasid = 5;
/** Numbers a set may have (its quota). */
const quota = 4;

/** VFIO_IOMMU_PASID_REQUEST: VFIO holds its device and calls down. The process's own if it has one. ENOSPC. */
export function requestIoasid(kernel: Kernel, file: Ref<'VfioFile'>): number {
  const { memory, root } = kernel;
  const set = VfioDevice.devSet.peek(memory, granted(kernel, file));
  DevSet.lock.acquire(memory, set);
  KernelRoot.ioasidLock.acquire(memory, root);
  try {
    return allocateIoasid(kernel);
  } finally {
    KernelRoot.ioasidLock.release(memory, root);
    DevSet.lock.release(memory, set);
  }
}

function allocateIoasid(kernel: Kernel): number {
  const { memory, process } = kernel;
  const set = Process.ioasids.peek(memory, process) || allocated(IoasidSet.tryCreate(memory));
  Process.ioasids.poke(memory, process, set);
  const count = IoasidSet.count.peek(memory, set);
  const first = IoasidSet.first.peek(memory, set);
  if (first !== NULL) return Ioasid.pasid.peek(memory, first);
  if (count === quota) fail('ENOSPC', 'the set is full');
  const added = allocated(Ioasid.tryCreate(memory));
  Ioasid.pasid.poke(memory, added, firstIoasid + kernel.processNumber * quota + count);
  IoasidSet.first.poke(memory, set, added);
  IoasidSet.count.poke(memory, set, count + 1);
  return Ioasid.pasid.peek(memory, added);
}

/** Whether the number is one of the calling VM's. EPERM. Under the lock. */
function checkSet({ memory, process }: Kernel, pasid: number): void {
  const set = Process.ioasids.peek(memory, process);
  let at: Ref<'Ioasid'> = set === NULL ? NULL : IoasidSet.first.peek(memory, set);
  while (at !== NULL && Ioasid.pasid.peek(memory, at) !== pasid) at = Ioasid.next.peek(memory, at);
  if (at === NULL) fail('EPERM', `PASID ${pasid} is of no set of this VM`);
}

/** BIND, with VFIO's handler called where the lock is held. EPERM, and as `vfioAttach`. */
export function bindUnderLock(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number, ptId: number): void {
  const { memory, root } = kernel;
  KernelRoot.ioasidLock.acquire(memory, root);
  try {
    checkSet(kernel, pasid);
    authorisePasid(kernel, file, pasid, ptId);
  } finally {
    KernelRoot.ioasidLock.release(memory, root);
  }
}

/** UNBIND, likewise. EPERM. */
export function unbindUnderLock(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number): void {
  const { memory, root } = kernel;
  KernelRoot.ioasidLock.acquire(memory, root);
  try {
    checkSet(kernel, pasid);
    revokePasid(kernel, file, pasid);
  } finally {
    KernelRoot.ioasidLock.release(memory, root);
  }
}

/** BIND, with the handler called when the lock is free again. */
export function bindUnlocked(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number, ptId: number): void {
  KernelRoot.ioasidLock.acquire(kernel.memory, kernel.root);
  try {
    checkSet(kernel, pasid);
  } finally {
    KernelRoot.ioasidLock.release(kernel.memory, kernel.root);
  }
  authorisePasid(kernel, file, pasid, ptId);
}

/** UNBIND: the chain of handlers must not sleep, and VFIO's would, for its device's lock. It leaves the rest to a worker. EPERM, ENOMEM. */
export function unbindLater(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number): void {
  const { memory, root } = kernel;
  KernelRoot.ioasidLock.acquire(memory, root);
  try {
    checkSet(kernel, pasid);
    const bond = allocated(IoasidBond.tryCreate(memory));
    IoasidBond.file.poke(memory, bond, file);
    IoasidBond.pasid.poke(memory, bond, pasid);
    IoasidBond.next.poke(memory, bond, KernelRoot.ioasidWork.peek(memory, root));
    KernelRoot.ioasidWork.poke(memory, root, bond);
  } finally {
    KernelRoot.ioasidLock.release(memory, root);
  }
}

/** The worker's part. */
export function doIoasidWork(kernel: Kernel): void {
  const { memory, root } = kernel;
  for (;;) {
    KernelRoot.ioasidLock.acquire(memory, root);
    const bond = KernelRoot.ioasidWork.peek(memory, root);
    if (bond !== NULL) KernelRoot.ioasidWork.poke(memory, root, IoasidBond.next.peek(memory, bond));
    KernelRoot.ioasidLock.release(memory, root);
    if (bond === NULL) return;
    revokePasid(kernel, IoasidBond.file.peek(memory, bond), IoasidBond.pasid.peek(memory, bond));
    IoasidBond.free(memory, bond);
  }
}
