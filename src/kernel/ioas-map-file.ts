/**
 * IOMMU_IOAS_MAP_FILE (`iommufd_ioas_map_file`): maps a file's pages, or a dma-buf, without any process having them mapped. What is so mapped
 * can change hands (`change-process.ts`), and outlives the process that mapped it.
 */
import type { Ref } from '#hostmem/object';
import { respond } from './argument.ts';
import { Dmabuf, joinDmabuf } from './dmabuf.ts';
import { fail } from './errno.ts';
import { getFile, putFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import { checkMap, getIoas, MapFlag, mapNewPages, payerOf } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { createPages, Pages, putPages } from './pages.ts';
import { Source } from './page-source.ts';
import { PAGE, U64_MAX } from './u64.ts';

export interface IoasMapFile { flags: number; ioasId: number; fd: number; start: bigint; length: bigint; iova: bigint }

/** The checks of IOAS_MAP, then EINVAL, EOVERFLOW, EBADF, and of a dma-buf EINVAL beyond its size and ENODEV while it is revoked; then as IOAS_MAP. */
export function ioasMapFile(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: IoasMapFile): void {
  checkMap(arg);
  const ioas = getIoas(kernel, iommufd, arg.ioasId);
  if (arg.length === 0n) fail('EINVAL', 'length is 0');
  if (arg.start + arg.length - 1n > U64_MAX) fail('EOVERFLOW', 'start + length wraps');
  const pages = openPages(kernel, ioas, arg);
  const iova = mapNewPages(kernel, ioas, pages, arg.start % PAGE, arg);
  respond(kernel, arg);
  arg.iova = iova;
}

/** The pages hold the file open. */
function openPages(kernel: Kernel, ioas: Ref<'Ioas'>, { fd, start, length, flags }: IoasMapFile): Ref<'Pages'> {
  const memory = kernel.memory;
  const file = getFile(kernel, fd);
  try {
    const isDmabuf = File.kind.peek(memory, file) === FileKind.DMABUF;
    const dmabuf = File.body.peek(memory, file) as Ref<'Dmabuf'>;
    if (isDmabuf && start + length > BigInt(Dmabuf.pages.peek(memory, dmabuf)) * PAGE) fail('EINVAL', 'the dma-buf is shorter');
    if (length > U64_MAX - PAGE) fail('EINVAL', 'length is too large');
    const pages = createPages(kernel, kernel.process, start, length, (flags & MapFlag.WRITEABLE) !== 0);
    if (isDmabuf) join(kernel, dmabuf, pages);
    Pages.source.poke(memory, pages, isDmabuf ? Source.DMABUF : Source.FILE);
    Pages.payer.poke(memory, pages, payerOf(kernel, ioas));
    Pages.file.poke(memory, pages, file);
    return pages;
  } catch (error) {
    putFile(kernel, file);
    throw error;
  }
}

function join(kernel: Kernel, dmabuf: Ref<'Dmabuf'>, pages: Ref<'Pages'>): void {
  try {
    joinDmabuf(kernel, dmabuf, pages);
  } catch (error) {
    putPages(kernel, pages);
    throw error;
  }
}
