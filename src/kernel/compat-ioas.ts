/** The IOAS that stands for a VFIO container (drivers/iommu/iommufd/vfio_compat.c): made when a legacy group is given an iommufd. */
import { NULL, type Ref } from '#hostmem/object';
import { respond } from './argument.ts';
import { fail } from './errno.ts';
import { createIoas, getIoas, Ioas } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { abortObject, Iommufd, IommufdObject, lockObject, publishObject } from './objects.ts';

/** Makes the context's compatibility IOAS, unless it has one (`iommufd_vfio_compat_ioas_create`). ENOMEM. */
export function ensureCompatIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>): void {
  const memory = kernel.memory;
  if (Iommufd.compatIoas.load(memory, iommufd) !== NULL) return;
  const ioas = createIoas(kernel, iommufd);
  const header = Ioas.header.peek(memory, ioas);
  // Another group's container may have made one meanwhile. First it is the context's, then it is found: who destroys it finds it there.
  const isFirst = Iommufd.compatIoas.compareExchange(memory, iommufd, NULL, ioas) === NULL;
  if (isFirst) {
    publishObject(kernel, header);
    return;
  }
  Ioas.free(memory, ioas);
  abortObject(kernel, header);
}

/** Its id; 0 when the context has none. */
export function compatIoasId(kernel: Kernel, iommufd: Ref<'Iommufd'>): number {
  const ioas = Iommufd.compatIoas.load(kernel.memory, iommufd);
  return ioas === NULL ? 0 : IommufdObject.id.peek(kernel.memory, Ioas.header.peek(kernel.memory, ioas));
}

export interface VfioIoas { ioasId: number; op: number; reserved?: number }

const Op = { GET: 0, SET: 1, CLEAR: 2 } as const;

/** IOMMU_VFIO_IOAS (`iommufd_vfio_ioas`): which IOAS the container's commands mean. EOPNOTSUPP, ENODEV, ENOENT. */
export function vfioIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: VfioIoas): void {
  if ((arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  if (arg.op === Op.GET) {
    const id = IommufdObject.id.peek(kernel.memory, Ioas.header.peek(kernel.memory, getCompatIoas(kernel, iommufd)));
    respond(kernel, arg);
    arg.ioasId = id;
  } else if (arg.op === Op.SET) Iommufd.compatIoas.store(kernel.memory, iommufd, getIoas(kernel, iommufd, arg.ioasId));
  else if (arg.op === Op.CLEAR) Iommufd.compatIoas.store(kernel.memory, iommufd, NULL);
  else fail('EOPNOTSUPP', `unknown operation ${arg.op}`);
}

/** The IOAS, held for the rest of the call (`get_compat_ioas`). ENODEV. */
export function getCompatIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>): Ref<'Ioas'> {
  const memory = kernel.memory;
  // The table's lock keeps the IOAS alive until it is held: who destroys it takes it out of the table first.
  Iommufd.objects.acquire(memory, iommufd);
  const ioas = Iommufd.compatIoas.load(memory, iommufd);
  const header = ioas === NULL ? NULL : Ioas.header.peek(memory, ioas);
  const locked = header !== NULL && lockObject(kernel, header);
  Iommufd.objects.release(memory, iommufd);
  if (!locked) fail('ENODEV', 'the context has no compatibility IOAS');
  kernel.hold(header);
  return ioas;
}
