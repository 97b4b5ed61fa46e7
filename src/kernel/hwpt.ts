/**
 * The HWPT: iommufd's object around a domain (drivers/iommu/iommufd/hw_pagetable.c). An automatic one is made by attaching a
 * device to an IOAS and vanishes with its last device; the others are their user's (`hwpt-alloc.ts`).
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import type { UserData } from '../drivers/driver.ts';
import type { Kernel } from './kernel.ts';
import { addDomain, removeDomain } from './iopt-domains.ts';
import { allocated, fail } from './errno.ts';
import { HwptLinked } from './events.ts';
import { Ioas } from './ioas.ts';
import {
  abortObject, addUser, dropUser, dropUserAndTryDestroy, IommufdObject, Kind, reserveObject, type ObjectRef,
} from './objects.ts';
import { PciDevice } from './iommu-group.ts';
import { FaultQueue } from './fault-queue.ts';
import { IommufdDevice } from './iommufd-device.ts';

export const Hwpt = object('Hwpt', {
  header: ref('IommufdObject'),
  ioas: ref('Ioas'),
  domain: ref('IommuDomain'),
  /** Made by an attach: goes by itself when the last device does. */
  automatic: u32,
  /** `HwptFlag` bits that it was made with. */
  flags: u32,
  /** Where page requests of its devices go; null for none. */
  faultQueue: ref('FaultQueue'),
  /** Of a nested one: the nest parent, and the vIOMMU that it was made through, or null. */
  parent: ref('Hwpt'),
  viommu: ref('Viommu'),
  /** Dirty tracking is on. */
  tracking: u32,
  /** The list of the IOAS, newest last. */
  next: ref('Hwpt').under('ioas.mutex'),
});

/** Flags of IOMMU_HWPT_ALLOC. */
export const HwptFlag = { NEST_PARENT: 1, DIRTY_TRACKING: 2, FAULT_ID_VALID: 4, PASID: 8 } as const;
const knownFlags = HwptFlag.NEST_PARENT | HwptFlag.DIRTY_TRACKING | HwptFlag.FAULT_ID_VALID | HwptFlag.PASID;

/**
 * A paging HWPT for the device's IOMMU on an IOAS (`iommufd_hwpt_paging_alloc`). Its id is reserved, not yet
 * published; it holds the IOAS. The caller holds `Ioas.mutex`. EOPNOTSUPP for flags or data that nobody knows, ENOMEM.
 */
export function allocateHwpt(kernel: Kernel, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>, flags: number = 0, data: UserData | null = null): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const parentWithFaults = HwptFlag.NEST_PARENT | HwptFlag.FAULT_ID_VALID;
  if ((flags & ~knownFlags) !== 0 || (flags & parentWithFaults) === parentWithFaults) fail('EOPNOTSUPP', `flags 0x${flags.toString(16)}`);
  const header = reserveObject(kernel, IommufdDevice.iommufd.peek(memory, device), Kind.HWPT);
  const hwpt = Hwpt.tryCreate(memory);
  try {
    Hwpt.header.poke(memory, allocated(hwpt), header);
    Hwpt.ioas.poke(memory, hwpt, ioas);
    IommufdObject.body.poke(memory, header, hwpt);
    Hwpt.flags.poke(memory, hwpt, flags);
    const pciFunction = PciDevice.function.peek(memory, IommufdDevice.device.peek(memory, device));
    Hwpt.domain.poke(memory, hwpt, allocateDomain(kernel, pciFunction, flags & ~HwptFlag.FAULT_ID_VALID, data));
  } catch (error) {
    if (hwpt !== NULL) Hwpt.free(memory, hwpt);
    abortObject(kernel, header);
    throw error;
  }
  addUser(kernel, Ioas.header.peek(memory, ioas));
  return hwpt;
}

function allocateDomain(kernel: Kernel, pciFunction: Ref<'PciFunction'>, flags: number, data: UserData | null): Ref<'IommuDomain'> {
  const { driver } = kernel;
  if (data === null) return driver.allocPagingDomain(pciFunction, flags);
  if (driver.allocPagingWithData === undefined) fail('EOPNOTSUPP', 'the driver takes no data for a paging domain');
  return driver.allocPagingWithData(pciFunction, flags, data);
}

/** Fills the domain with the IOAS's mappings and links the HWPT. The caller holds `Ioas.mutex`. */
export function joinIoas(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const ioas = Hwpt.ioas.peek(memory, hwpt);
  addDomain(kernel, ioas, Hwpt.domain.peek(memory, hwpt));
  linkHwpt(kernel, ioas, hwpt);
}

/** Puts it at the end of the IOAS's list. The caller holds `Ioas.mutex`. */
export function linkHwpt(kernel: Kernel, ioas: Ref<'Ioas'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  let last = Ioas.hwpts.read(memory, ioas);
  if (last === NULL) Ioas.hwpts.write(memory, ioas, hwpt);
  else {
    for (let next = Hwpt.next.read(memory, last); next !== NULL; next = Hwpt.next.read(memory, last)) last = next;
    Hwpt.next.write(memory, last, hwpt);
  }
  HwptLinked.emit(memory, IommufdObject.id.peek(memory, Ioas.header.peek(memory, ioas)), hwptId(kernel, hwpt), kernel.processNumber);
}

/** Undoes `joinIoas`. The caller holds `Ioas.mutex`. */
export function leaveIoas(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const ioas = Hwpt.ioas.peek(kernel.memory, hwpt);
  unlinkHwpt(kernel, ioas, hwpt);
  removeDomain(kernel, ioas, Hwpt.domain.peek(kernel.memory, hwpt));
}

/** Takes back an HWPT that never joined its IOAS. */
export function abortHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  kernel.driver.freeDomain(Hwpt.domain.peek(memory, hwpt));
  dropUser(kernel, Ioas.header.peek(memory, Hwpt.ioas.peek(memory, hwpt)));
  const header = Hwpt.header.peek(memory, hwpt);
  Hwpt.free(memory, hwpt);
  abortObject(kernel, header);
}

/** The destructor (`iommufd_hwpt_paging_destroy`): takes the domain out of the IOAS, then lets go of both. */
export function destroyHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const ioas = Hwpt.ioas.peek(memory, hwpt);
  const domain = Hwpt.domain.peek(memory, hwpt);
  Ioas.mutex.acquire(memory, ioas);
  unlinkHwpt(kernel, ioas, hwpt);
  Ioas.mutex.release(memory, ioas);
  removeDomain(kernel, ioas, domain);
  kernel.driver.freeDomain(domain);
  dropUser(kernel, Ioas.header.peek(memory, ioas));
  const queue = Hwpt.faultQueue.peek(memory, hwpt);
  if (queue !== NULL) dropUser(kernel, FaultQueue.header.peek(memory, queue));
  Hwpt.free(memory, hwpt);
}

function unlinkHwpt(kernel: Kernel, ioas: Ref<'Ioas'>, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const next = Hwpt.next.read(memory, hwpt);
  let at = Ioas.hwpts.read(memory, ioas);
  if (at === hwpt) {
    Ioas.hwpts.write(memory, ioas, next);
    return;
  }
  while (Hwpt.next.read(memory, at) !== hwpt) at = Hwpt.next.read(memory, at);
  Hwpt.next.write(memory, at, next);
}

/** One device's edge less; an automatic HWPT without users goes (`iommufd_hw_pagetable_put`). No lock is held. */
export function putHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const header = Hwpt.header.peek(kernel.memory, hwpt);
  if (Hwpt.automatic.load(kernel.memory, hwpt) === 0) dropUser(kernel, header);
  else dropUserAndTryDestroy(kernel, header);
}

export const hwptId = (kernel: Kernel, hwpt: Ref<'Hwpt'>): number =>
  IommufdObject.id.peek(kernel.memory, Hwpt.header.peek(kernel.memory, hwpt));

export const headerOf = (kernel: Kernel, hwpt: Ref<'Hwpt'>): ObjectRef => Hwpt.header.peek(kernel.memory, hwpt);
