/** The selftest's own exporter of dma-bufs (drivers/iommu/iommufd/selftest.c): kernel memory in place of a device's registers. */
import { Owner } from '#hostmem/frames';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { createDmabuf, Dmabuf, moveDmabuf, releaseDmabuf } from '../dmabuf.ts';
import { allocated, fail } from '../errno.ts';
import { getFile, putFile, tryInstallFile } from '../file.ts';
import { File, FileKind } from '../open-file.ts';
import type { Kernel } from '../kernel.ts';

export interface DmabufGet { length: number }
export interface DmabufRevoke { fd: number; revoked: boolean }

const mostPages = 512;

/** DMABUF_GET: a new dma-buf of whole pages; returns its descriptor. EINVAL for none or more than 512 pages, ENOMEM. */
export function dmabufGet(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { length }: DmabufGet): number {
  const pages = Math.ceil(length / 4096);
  if (pages === 0 || pages > mostPages) fail('EINVAL', `a dma-buf of ${pages} pages`);
  const first = allocated(kernel.host.frames.allocateRun(Owner.KERNEL, pages, 1));
  let dmabuf: Ref<'Dmabuf'> = NULL;
  try {
    dmabuf = createDmabuf(kernel, first, pages, 1, NULL);
    const fd = tryInstallFile(kernel, FileKind.DMABUF, dmabuf);
    return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
  } catch (error) {
    if (dmabuf === NULL) for (let page = 0; page < pages; page++) kernel.host.frames.drop((first + page) as Frame);
    else releaseDmabuf(kernel, dmabuf);
    throw error;
  }
}

/** DMABUF_REVOKE. EBADF, EINVAL for a file that is no dma-buf, EOPNOTSUPP for another exporter's. */
export function dmabufRevoke(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { fd, revoked }: DmabufRevoke): void {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.DMABUF) fail('EINVAL', `descriptor ${fd} is no dma-buf`);
    const dmabuf = File.body.peek(kernel.memory, file) as Ref<'Dmabuf'>;
    if (Dmabuf.device.peek(kernel.memory, dmabuf) !== NULL) fail('EOPNOTSUPP', 'the dma-buf is a device\'s');
    moveDmabuf(kernel, dmabuf, revoked);
  } finally {
    putFile(kernel, file);
  }
}
