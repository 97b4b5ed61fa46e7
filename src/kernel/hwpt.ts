/**
 * The HWPT: iommufd's object around a domain (drivers/iommu/iommufd/hw_pagetable.c). Here the automatic one, made by
 * attaching a device to an IOAS; it vanishes with its last device.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import type { Kernel } from './kernel.ts';
import { addDomain, removeDomain } from './iopt.ts';
import { allocated } from './errno.ts';
import { Ioas } from './ioas.ts';
import {
  abortObject, addUser, dropUser, dropUserAndTryDestroy, IommufdObject, Kind, reserveObject, type ObjectRef,
} from './objects.ts';
import { PciDevice } from './iommu-group.ts';
import { IommufdDevice } from './iommufd-device.ts';

export const Hwpt = object('Hwpt', {
  header: ref('IommufdObject'),
  ioas: ref('Ioas'),
  domain: ref('IommuDomain'),
  /** Made by an attach: goes by itself when the last device does. */
  automatic: u32,
  /** The list of the IOAS, newest last. */
  next: ref('Hwpt').under('ioas.mutex'),
});

/**
 * A paging HWPT for the device's IOMMU on an IOAS (`iommufd_hwpt_paging_alloc`). Its id is reserved, not yet
 * published; it holds the IOAS. The caller holds `Ioas.mutex`. ENOMEM, and EADDRINUSE when the domain does not fit.
 */
export function allocateHwpt(kernel: Kernel, device: Ref<'IommufdDevice'>, ioas: Ref<'Ioas'>): Ref<'Hwpt'> {
  const memory = kernel.memory;
  const header = reserveObject(kernel, IommufdDevice.iommufd.peek(memory, device), Kind.HWPT);
  const hwpt = Hwpt.tryCreate(memory);
  try {
    Hwpt.header.poke(memory, allocated(hwpt), header);
    Hwpt.ioas.poke(memory, hwpt, ioas);
    IommufdObject.body.poke(memory, header, hwpt);
    const pci = IommufdDevice.device.peek(memory, device);
    Hwpt.domain.poke(memory, hwpt, kernel.driver.allocPagingDomain(PciDevice.function.peek(memory, pci), 0));
  } catch (error) {
    if (hwpt !== NULL) Hwpt.free(memory, hwpt);
    abortObject(kernel, header);
    throw error;
  }
  addUser(kernel, Ioas.header.peek(memory, ioas));
  return hwpt;
}

/** Fills the domain with the IOAS's mappings and links the HWPT. The caller holds `Ioas.mutex`. */
export function joinIoas(kernel: Kernel, hwpt: Ref<'Hwpt'>): void {
  const memory = kernel.memory;
  const ioas = Hwpt.ioas.peek(memory, hwpt);
  addDomain(kernel, ioas, Hwpt.domain.peek(memory, hwpt));
  let last = Ioas.hwpts.read(memory, ioas);
  if (last === NULL) {
    Ioas.hwpts.write(memory, ioas, hwpt);
    return;
  }
  for (let next = Hwpt.next.read(memory, last); next !== NULL; next = Hwpt.next.read(memory, last)) last = next;
  Hwpt.next.write(memory, last, hwpt);
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
