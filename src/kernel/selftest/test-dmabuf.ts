/** The selftest's own exporter of dma-bufs (drivers/iommu/iommufd/selftest.c): kernel memory in place of a device's registers. */
import { Owner } from '#hostmem/frames';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { exportDmabuf, revokeDmabuf } from '../dmabuf.ts';
import { allocated, fail } from '../errno.ts';
import type { Kernel } from '../kernel.ts';

export interface DmabufGet { length: number }
export interface DmabufRevoke { fd: number; revoked: boolean }

const mostPages = 512;

/** DMABUF_GET: a new dma-buf of whole pages; returns its descriptor. EINVAL for none or more than 512 pages, ENOMEM. */
export function dmabufGet(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { length }: DmabufGet): number {
  const pages = Math.ceil(length / 4096);
  if (pages === 0 || pages > mostPages) fail('EINVAL', `a dma-buf of ${pages} pages`);
  const first = allocated(kernel.host.frames.allocateRun(Owner.KERNEL, pages, 1));
  try {
    return exportDmabuf(kernel, first, pages);
  } catch (error) {
    for (let page = 0; page < pages; page++) kernel.host.frames.drop((first + page) as Frame);
    throw error;
  }
}

/** DMABUF_REVOKE. EBADF, EINVAL. */
export function dmabufRevoke(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { fd, revoked }: DmabufRevoke): void {
  revokeDmabuf(kernel, fd, revoked);
}
