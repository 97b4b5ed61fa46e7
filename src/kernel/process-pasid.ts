/**
 * The PASID of a process: one number on every device, because ENQCMD takes it from a register of the CPU (`iommu_sva_bind_device`,
 * `iommu_alloc_global_pasid`; IA32_PASID). PASIDs that users pick through VFIO are not taken from these numbers.
 *
 * What a device reaches by it is an HWPT that the process made; tables of the process itself (SVA) are not modelled. The number is the lowest free one and
 * is given back with the last bond; 7.2 keeps it until the process's memory map goes.
 */
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { PasidFreed } from './events.ts';
import { KernelRoot, pasidCount, type Kernel } from './kernel.ts';
import { Process } from './process.ts';
import { vfioAttach, vfioDetach, VfioFlag } from './vfio.ts';

/** Linux begins at 1; here no process shares its table of 64 PASIDs with the requests without one, which are PASID 0. */
export const firstProcessPasid = 64;
export const lastProcessPasid = firstProcessPasid + pasidCount - 1;

/** Lets a device reach an HWPT under the calling process's PASID, which it gets if it has none. Returns the number. ENOSPC, and as `vfioAttach`. */
export function bindProcess(kernel: Kernel, file: Ref<'VfioFile'>, ptId: number): number {
  const pasid = takePasid(kernel);
  try {
    vfioAttach(kernel, file, { argsz: 16, flags: VfioFlag.PASID, ptId, pasid });
  } catch (error) {
    dropPasid(kernel);
    throw error;
  }
  return pasid;
}

/** Undoes it. The device can do nothing by the number any more when that is given back. */
export function unbindProcess(kernel: Kernel, file: Ref<'VfioFile'>): void {
  blockDevice(kernel, file, ownPasid(kernel));
  dropPasid(kernel);
}

export const blockDevice = (kernel: Kernel, file: Ref<'VfioFile'>, pasid: number): void => vfioDetach(kernel, file, { argsz: 12, flags: VfioFlag.PASID, pasid });

/** What ENQCMD puts into a command: 0 where the process has no PASID, and a general protection fault would tell the kernel so. */
export function ownPasid(kernel: Kernel): number {
  KernelRoot.pasidLock.acquire(kernel.memory, kernel.root);
  const pasid = Process.pasid.peek(kernel.memory, kernel.process);
  KernelRoot.pasidLock.release(kernel.memory, kernel.root);
  return pasid;
}

function takePasid(kernel: Kernel): number {
  const { memory, root, process } = kernel;
  KernelRoot.pasidLock.acquire(memory, root);
  const pasid = Process.pasid.peek(memory, process) || takeLowest(kernel);
  if (pasid !== 0) {
    Process.pasid.poke(memory, process, pasid);
    Process.pasidBonds.poke(memory, process, Process.pasidBonds.peek(memory, process) + 1);
  }
  KernelRoot.pasidLock.release(memory, root);
  return pasid === 0 ? fail('ENOSPC', 'no PASID is left') : pasid;
}

/** One bond less; with the last one the number goes (`iommu_free_global_pasid`). */
export function dropPasid(kernel: Kernel): void {
  const { memory, root, process } = kernel;
  KernelRoot.pasidLock.acquire(memory, root);
  const pasid = Process.pasid.peek(memory, process);
  const bonds = Process.pasidBonds.peek(memory, process) - 1;
  Process.pasidBonds.poke(memory, process, bonds);
  if (bonds === 0) {
    Process.pasid.poke(memory, process, 0);
    setTaken(kernel, pasid - firstProcessPasid, false);
    PasidFreed.emit(memory, pasid, kernel.processNumber);
  }
  KernelRoot.pasidLock.release(memory, root);
}

/** 0 when none is left. Under the lock, as below. */
function takeLowest(kernel: Kernel): number {
  for (let bit = 0; bit < pasidCount; bit++) {
    if (!isPasidFree(kernel.memory, kernel.root, firstProcessPasid + bit)) continue;
    setTaken(kernel, bit, true);
    return firstProcessPasid + bit;
  }
  return 0;
}

/** Whether no process has the number. As no point. */
export const isPasidFree = (memory: Memory, root: Ref<'KernelRoot'>, pasid: number): boolean => {
  const bit = pasid - firstProcessPasid;
  return (KernelRoot.pasids.get(memory, root, bit >>> 5) & (1 << (bit & 31))) === 0;
};

function setTaken({ memory, root }: Kernel, bit: number, taken: boolean): void {
  const word = KernelRoot.pasids.get(memory, root, bit >>> 5);
  const mask = 1 << (bit & 31);
  KernelRoot.pasids.set(memory, root, bit >>> 5, taken ? word | mask : word & ~mask);
}
