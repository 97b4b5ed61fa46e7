/** A file in memory (memfd_create(2)): its pages are frames that mappings of it share. */
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { File, FileKind, getFile, putFile, tryInstallFile } from './file.ts';
import type { Kernel } from './kernel.ts';
import { markCompound, mmapShared, ownerOf, Process } from './process.ts';

export const Memfd = object('Memfd', {
  pages: u32,
  /** Its pages are parts of larger ones (MFD_HUGETLB). */
  compound: u32,
  frames: ref('Run'),
});

/** memfd_create(2): an empty file; returns the descriptor. ENOMEM. */
export function createMemfd(kernel: Kernel, compound: boolean): number {
  const memfd = allocated(Memfd.tryCreate(kernel.memory));
  Memfd.compound.poke(kernel.memory, memfd, compound ? 1 : 0);
  const fd = tryInstallFile(kernel, FileKind.MEMFD, memfd);
  if (fd < 0) Memfd.free(kernel.memory, memfd);
  return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
}

/** ftruncate(2) of an empty file: `lengthBytes` of zeros, populated at once. EBADF, ENOMEM; EINVAL for a file that has pages. */
export function growMemfd(kernel: Kernel, fd: number, lengthBytes: number): void {
  const file = getMemfdFile(kernel, fd);
  try {
    grow(kernel, File.body.peek(kernel.memory, file) as Ref<'Memfd'>, Math.ceil(lengthBytes / 4096));
  } finally {
    putFile(kernel, file);
  }
}

function grow(kernel: Kernel, memfd: Ref<'Memfd'>, pages: number): void {
  const memory = kernel.memory;
  if (Memfd.frames.peek(memory, memfd) !== NULL) fail('EINVAL', 'the file has pages');
  const frames = allocated(tryCreateRun(memory, pages));
  Memfd.frames.poke(memory, memfd, frames);
  const owner = ownerOf(Process.number.peek(memory, kernel.process));
  for (let page = 0; page < pages; page++) {
    const frame = kernel.host.frames.allocate(owner);
    if (frame === 0) {
      dropFrames(kernel, memfd);
      fail('ENOMEM', 'host RAM is used up');
    }
    runSet(memory, frames, page, frame);
    Memfd.pages.poke(memory, memfd, page + 1);
  }
}

/** The file has no pages any more; mappings and pins keep what they have. */
function dropFrames(kernel: Kernel, memfd: Ref<'Memfd'>): void {
  const memory = kernel.memory;
  const frames = Memfd.frames.peek(memory, memfd);
  if (frames === NULL) return;
  const pages = Memfd.pages.peek(memory, memfd);
  for (let page = 0; page < pages; page++) kernel.host.frames.drop(runGet(memory, frames, page) as Frame);
  freeRun(memory, frames);
  Memfd.frames.poke(memory, memfd, NULL);
  Memfd.pages.poke(memory, memfd, 0);
}

/** mmap(2) of the file from its start. EBADF, EINVAL beyond its end, EEXIST, ENOMEM. */
export function mmapMemfd(kernel: Kernel, fd: number, lengthBytes: number, writable: boolean, at: bigint | null): bigint {
  const memory = kernel.memory;
  const file = getMemfdFile(kernel, fd);
  try {
    const memfd = File.body.peek(memory, file) as Ref<'Memfd'>;
    const pages = Math.ceil(lengthBytes / 4096);
    if (pages > Memfd.pages.peek(memory, memfd)) fail('EINVAL', 'the mapping is longer than the file');
    const start = mmapShared(kernel, kernel.process, Memfd.frames.peek(memory, memfd), pages, writable, at);
    if (Memfd.compound.peek(memory, memfd) !== 0) markCompound(kernel, kernel.process, start);
    return start;
  } finally {
    putFile(kernel, file);
  }
}

function getMemfdFile(kernel: Kernel, fd: number): Ref<'File'> {
  const file = getFile(kernel, fd);
  if (File.kind.peek(kernel.memory, file) === FileKind.MEMFD) return file;
  putFile(kernel, file);
  return fail('EINVAL', `descriptor ${fd} is no file in memory`);
}

/** The last close: mappings and pins keep the frames that they have. */
export function releaseMemfd(kernel: Kernel, memfd: Ref<'Memfd'>): void {
  dropFrames(kernel, memfd);
  Memfd.free(kernel.memory, memfd);
}
