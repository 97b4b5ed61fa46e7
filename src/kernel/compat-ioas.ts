/** The IOAS that stands for a VFIO container (drivers/iommu/iommufd/vfio_compat.c): made when a legacy group is given an iommufd. */
import { NULL, type Ref } from '#hostmem/object';
import { Ioas, ioasAlloc } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { getObject, Iommufd, IommufdObject, Kind } from './objects.ts';

/** Makes the context's compatibility IOAS, unless it has one (`iommufd_vfio_compat_ioas_create`). ENOMEM. */
export function ensureCompatIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>): void {
  if (Iommufd.compatIoas.load(kernel.memory, iommufd) !== NULL) return;
  const arg = { flags: 0, outIoasId: 0 };
  ioasAlloc(kernel, iommufd, arg);
  const header = kernel.hold(getObject(kernel, iommufd, arg.outIoasId, Kind.IOAS));
  Iommufd.compatIoas.store(kernel.memory, iommufd, IommufdObject.body.peek(kernel.memory, header) as Ref<'Ioas'>);
}

/** Its id; 0 when the context has none. */
export function compatIoasId(kernel: Kernel, iommufd: Ref<'Iommufd'>): number {
  const ioas = Iommufd.compatIoas.load(kernel.memory, iommufd);
  return ioas === NULL ? 0 : IommufdObject.id.peek(kernel.memory, Ioas.header.peek(kernel.memory, ioas));
}
