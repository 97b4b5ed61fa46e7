/**
 * The PCI TSM core (drivers/pci/tsm.c of 7.2): which device is connected to its security manager, and to whose VM its interface is bound.
 *
 *   none -> connected      by connect          connected -> none      by disconnect, which unbinds first
 *   connected -> bound     by bind             bound -> connected     by unbind
 *
 * Two locks: `rwsem` (`pci_tsm_rwsem`), for writing while devices come and go; `Dsm.lock` (`pf0->lock`) around every call of the TSM for a
 * device and its functions. 7.2 has no caller of bind, unbind and guest_req, and no TSM with these operations: forward-looking.
 */
import { mutex, rwsem } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { object, ref, u32 } from '#hostmem/struct';
import { RequestScope, splitAt, TBitPolicy, type LinkTsm, type Request } from '../drivers/tsm/link-tsm.ts';
import { allocated, assert, fail } from './errno.ts';
import { PciDevice } from './iommu-group.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import { gpaOf, guestFrame, Tvm } from './tvm.ts';

/** The core's state, once per host that has a TSM. */
export const TsmCore = object('TsmCore', { rwsem: rwsem });

/** The device security manager of a physical device (`struct pci_tsm_pf0`); here of one function, which is its own. */
export const Dsm = object('Dsm', { lock: mutex });

/** A device that is connected (`pdev->tsm`). */
export const PciTsm = object('PciTsm', { dsm: ref('Dsm'), tdi: ref('PciTdi').under('dsm.lock') });

/** A bound interface (`struct pci_tdi`). */
const PciTdi = object('PciTdi', { device: ref('PciDevice'), tvm: ref('Tvm'), tdiId: u32 });

/** Connects a device. EBUSY when it is connected, ENOMEM. */
export function connect(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const core = coreOf(kernel);
  TsmCore.rwsem.acquireWrite(memory, core);
  try {
    if (PciDevice.tsm.peek(memory, device) !== NULL) fail('EBUSY', 'the device is connected');
    const dsm = allocated(Dsm.tryCreate(memory));
    const tsm = PciTsm.tryCreate(memory);
    if (tsm === NULL) Dsm.free(memory, dsm);
    PciTsm.dsm.poke(memory, allocated(tsm), dsm);
    PciDevice.tsm.poke(memory, device, tsm);
  } finally {
    TsmCore.rwsem.releaseWrite(memory, core);
  }
}

/** Unbinds, then lets the device go. EINVAL when it is not connected. */
export function disconnect(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const core = coreOf(kernel);
  TsmCore.rwsem.acquireWrite(memory, core);
  try {
    const tsm = PciDevice.tsm.peek(memory, device);
    if (tsm === NULL) fail('EINVAL', 'the device is not connected');
    unbindLocked(kernel, device, tsm);
    PciDevice.tsm.poke(memory, device, NULL);
    Dsm.free(memory, PciTsm.dsm.peek(memory, tsm));
    PciTsm.free(memory, tsm);
  } finally {
    TsmCore.rwsem.releaseWrite(memory, core);
  }
}

/** `pci_tsm_bind`. EINVAL without a VM or a connection, EBUSY for the interface of another VM, ENOMEM. Binding to the same VM again is nothing. */
export function bindInterface(kernel: Kernel, device: Ref<'PciDevice'>, tvm: Ref<'Tvm'>, tdiId: number): void {
  const memory = kernel.memory;
  if (tvm === NULL) fail('EINVAL', 'an interface is bound to a VM');
  const tsm = enter(kernel, device, 'EINVAL');
  try {
    const tdi = PciTsm.tdi.read(memory, tsm);
    if (tdi !== NULL && PciTdi.tvm.peek(memory, tdi) !== tvm) fail('EBUSY', 'the interface is bound to another VM');
    if (tdi === NULL) bindLocked(kernel, device, tsm, tvm, tdiId);
  } finally {
    leave(kernel, tsm);
  }
}

/** What `bindInterface` does once it knows that it may. Under `Dsm.lock`. */
export function bindLocked(kernel: Kernel, device: Ref<'PciDevice'>, tsm: Ref<'PciTsm'>, tvm: Ref<'Tvm'>, tdiId: number): void {
  const memory = kernel.memory;
  const tdi = allocated(PciTdi.tryCreate(memory));
  PciTdi.device.poke(memory, tdi, device);
  PciTdi.tvm.poke(memory, tdi, tvm);
  PciTdi.tdiId.poke(memory, tdi, tdiId);
  try {
    bindFirmware(kernel, PciDevice.function.peek(memory, device), tvm);
  } catch (error) {
    PciTdi.free(memory, tdi);
    throw error;
  }
  PciTsm.tdi.write(memory, tsm, tdi);
}

/** ENOMEM; nothing is bound then. */
function bindFirmware(kernel: Kernel, pciFunction: Ref<'PciFunction'>, tvm: Ref<'Tvm'>): void {
  const policy = kernel.operations.confidential.policy();
  const tsm = tsmOf(kernel);
  tsm.bind(pciFunction, Tvm.guest.peek(kernel.memory, tvm), policy);
  try {
    if (policy === TBitPolicy.SPLIT) mapHalves(kernel, pciFunction, tvm);
  } catch (error) {
    tsm.unbind(pciFunction);
    throw error;
  }
}

/** Without a vIOMMU the trusted table is the guest's second stage: all its memory below X, and the same above. Ownership says which of them holds. */
function mapHalves(kernel: Kernel, pciFunction: Ref<'PciFunction'>, tvm: Ref<'Tvm'>): void {
  for (let page = 0; page < Tvm.pages.peek(kernel.memory, tvm); page++) {
    const frame = guestFrame(kernel, tvm, page);
    tsmOf(kernel).map(pciFunction, gpaOf(page), frame, Access.READ | Access.WRITE);
    tsmOf(kernel).map(pciFunction, splitAt + gpaOf(page), frame, Access.READ | Access.WRITE);
  }
}

/** `pci_tsm_unbind`: nothing to do for what is not bound. */
export function unbindInterface(kernel: Kernel, device: Ref<'PciDevice'>): void {
  const memory = kernel.memory;
  const core = coreOf(kernel);
  TsmCore.rwsem.acquireRead(memory, core);
  const tsm = PciDevice.tsm.peek(memory, device);
  if (tsm !== NULL) unbindLocked(kernel, device, tsm);
  TsmCore.rwsem.releaseRead(memory, core);
}

/** A user lets a device go: its interface is unbound before the host has it back (X6). Linux 7.2 has nobody who binds, and so not this. */
export function releaseInterface(kernel: Kernel, device: Ref<'PciDevice'>): void {
  if (kernel.tsm !== null) unbindInterface(kernel, device);
}

/** Under `rwsem`. */
function unbindLocked(kernel: Kernel, device: Ref<'PciDevice'>, tsm: Ref<'PciTsm'>): void {
  const memory = kernel.memory;
  const dsm = PciTsm.dsm.peek(memory, tsm);
  Dsm.lock.acquire(memory, dsm);
  const tdi = PciTsm.tdi.read(memory, tsm);
  if (tdi !== NULL) {
    tsmOf(kernel).unbind(PciDevice.function.peek(memory, device));
    PciTsm.tdi.write(memory, tsm, NULL);
    PciTdi.free(memory, tdi);
  }
  Dsm.lock.release(memory, dsm);
}

/** `pci_tsm_guest_req`. EINVAL beyond the scopes that are about TDISP, ENXIO for what is not connected or not bound, EIO in the wrong state. */
export function guestRequest(kernel: Kernel, device: Ref<'PciDevice'>, scope: RequestScope, what: Request): void {
  const memory = kernel.memory;
  if (scope > RequestScope.STATE_CHANGE) fail('EINVAL', 'a request that is not about TDISP');
  const tsm = enter(kernel, device, 'ENXIO');
  try {
    if (PciTsm.tdi.read(memory, tsm) === NULL) fail('ENXIO', 'the interface is bound to nobody');
    tsmOf(kernel).request(PciDevice.function.peek(memory, device), scope, what);
  } finally {
    leave(kernel, tsm);
  }
}

/** Whether the interface is bound at this moment, which is over when it returns. Fails as `enter`. */
export function isBound(kernel: Kernel, device: Ref<'PciDevice'>, otherwise: 'EINVAL' | 'ENXIO'): boolean {
  const tsm = enter(kernel, device, otherwise);
  const bound = PciTsm.tdi.read(kernel.memory, tsm) !== NULL;
  leave(kernel, tsm);
  return bound;
}

/** Takes `rwsem` for reading and the lock of the device's DSM; fails as told when the device is not connected. Pairs with `leave`. */
export function enter(kernel: Kernel, device: Ref<'PciDevice'>, otherwise: 'EINVAL' | 'ENXIO'): Ref<'PciTsm'> {
  const memory = kernel.memory;
  const core = coreOf(kernel);
  TsmCore.rwsem.acquireRead(memory, core);
  const tsm = PciDevice.tsm.peek(memory, device);
  if (tsm === NULL) {
    TsmCore.rwsem.releaseRead(memory, core);
    fail(otherwise, 'the device is not connected');
  }
  Dsm.lock.acquire(memory, PciTsm.dsm.peek(memory, tsm));
  return tsm;
}

export function leave(kernel: Kernel, tsm: Ref<'PciTsm'>): void {
  const memory = kernel.memory;
  Dsm.lock.release(memory, PciTsm.dsm.peek(memory, tsm));
  TsmCore.rwsem.releaseRead(memory, coreOf(kernel));
}

/** The TSM of a host that has one. */
export function tsmOf(kernel: Kernel): LinkTsm {
  assert(kernel.tsm !== null, 'the host has a TSM');
  return kernel.tsm;
}

const coreOf = (kernel: Kernel): Ref<'TsmCore'> => KernelRoot.tsm.peek(kernel.memory, kernel.root);
