/**
 * The page-request queue object (drivers/iommu/iommufd/eventq.c): an HWPT made with it delivers its devices' page requests there.
 *
 * Its descriptor holds the object and the context; the object stays until it is destroyed. No device here makes page
 * requests, so nothing is ever queued: what can be seen is who holds whom, and which attach is refused.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref } from '#hostmem/struct';
import { fail } from './errno.ts';
import { FileKind, tryInstallFile } from './file.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, addUser, dropUser, Iommufd, IommufdObject, Kind, publishObject, putIommufd, reserveObject } from './objects.ts';

export const FaultQueue = object('FaultQueue', { header: ref('IommufdObject') });

export interface FaultQueueAlloc { flags: number; outFaultId: number; outFaultFd: number }

/** IOMMU_FAULT_QUEUE_ALLOC: EOPNOTSUPP for flags, ENOMEM. */
export function faultQueueAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: FaultQueueAlloc): void {
  const memory = kernel.memory;
  if (arg.flags !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  const header = reserveObject(kernel, iommufd, Kind.FAULT_QUEUE);
  const queue = FaultQueue.tryCreate(memory);
  const fd = queue === NULL ? -1 : tryInstallFile(kernel, FileKind.FAULT_QUEUE, queue);
  if (fd < 0) {
    if (queue !== NULL) FaultQueue.free(memory, queue);
    abortObject(kernel, header);
    fail('ENOMEM', 'kernel memory is used up');
  }
  FaultQueue.header.poke(memory, queue, header);
  IommufdObject.body.poke(memory, header, queue);
  addUser(kernel, header);
  Iommufd.references.add(memory, iommufd, 1);
  publishObject(kernel, header);
  arg.outFaultId = IommufdObject.id.peek(memory, header);
  arg.outFaultFd = fd;
}

/** The last close of its descriptor. */
export function releaseFaultQueueFile(kernel: Kernel, queue: Ref<'FaultQueue'>): void {
  const header = FaultQueue.header.peek(kernel.memory, queue);
  const iommufd = IommufdObject.iommufd.peek(kernel.memory, header);
  dropUser(kernel, header);
  putIommufd(kernel, iommufd);
}

/** The destructor: no HWPT and no descriptor holds it. */
export function destroyFaultQueue(kernel: Kernel, queue: Ref<'FaultQueue'>): void {
  FaultQueue.free(kernel.memory, queue);
}
