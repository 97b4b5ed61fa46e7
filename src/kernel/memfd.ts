/** A file in memory (memfd_create(2)): its pages are frames that mappings and pins of it share. They are populated at once. */
import { mutex } from '#hostmem/locks';
import { pageBytes, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { getFile, putFile, tryInstallFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { ownerOf, place, Process } from './process.ts';
import { Region, shareRun } from './region.ts';

export const Memfd = object('Memfd', {
  /** Its pages are parts of larger ones (MFD_HUGETLB). */
  compound: u32,
  lock: mutex,
  /** Its size. */
  endByte: u64,
  pages: u32.under('lock'),
  /** Null while it has no pages. */
  frames: ref('Run').under('lock'),
});

const hugePageBytes = 1 << 21;

/** memfd_create(2): an empty file; returns the descriptor. ENOMEM. */
export function createMemfd(kernel: Kernel, compound: boolean): number {
  const memfd = allocated(Memfd.tryCreate(kernel.memory));
  Memfd.compound.poke(kernel.memory, memfd, compound ? 1 : 0);
  const fd = tryInstallFile(kernel, FileKind.MEMFD, memfd);
  if (fd < 0) Memfd.free(kernel.memory, memfd);
  return fd < 0 ? fail('ENOMEM', 'no descriptor is left') : fd;
}

/**
 * ftruncate(2). New pages are zeros; those beyond a smaller size are the file's no more, but stay with whoever maps or pins them. EBADF,
 * EINVAL for a file that is not in memory, or a size that is not whole huge pages; ENOMEM.
 */
export function truncateMemfd(kernel: Kernel, fd: number, sizeBytes: number): void {
  const memory = kernel.memory;
  const file = getMemfdFile(kernel, fd);
  const memfd = File.body.peek(memory, file) as Ref<'Memfd'>;
  Memfd.lock.acquire(memory, memfd);
  try {
    if (Memfd.compound.peek(memory, memfd) !== 0 && sizeBytes % hugePageBytes !== 0) fail('EINVAL', 'the size is not whole huge pages');
    resize(kernel, memfd, Math.ceil(sizeBytes / pageBytes));
    Memfd.endByte.pokeBig(memory, memfd, BigInt(sizeBytes));
  } finally {
    Memfd.lock.release(memory, memfd);
    putFile(kernel, file);
  }
}

/** All of the new pages or none. Under the lock. ENOMEM. */
function resize(kernel: Kernel, memfd: Ref<'Memfd'>, pages: number): void {
  const memory = kernel.memory;
  const old = Memfd.frames.read(memory, memfd);
  const oldPages = Memfd.pages.read(memory, memfd);
  const frames = pages === 0 ? NULL : allocated(tryCreateRun(memory, pages));
  const kept = Math.min(oldPages, pages);
  for (let page = 0; page < kept; page++) runSet(memory, frames, page, runGet(memory, old, page));
  addPages(kernel, frames, kept, pages);
  for (let page = pages; page < oldPages; page++) kernel.host.frames.drop(runGet(memory, old, page) as Frame);
  if (old !== NULL) freeRun(memory, old);
  Memfd.frames.write(memory, memfd, frames);
  Memfd.pages.write(memory, memfd, pages);
}

/** Zeroed pages `[first, end)` of a new run, which is freed without memory for all. ENOMEM. */
function addPages(kernel: Kernel, frames: Ref<'Run'>, first: number, end: number): void {
  const memory = kernel.memory;
  const owner = ownerOf(Process.number.peek(memory, kernel.process));
  for (let page = first; page < end; page++) {
    const frame = kernel.host.frames.allocate(owner);
    if (frame !== 0) {
      runSet(memory, frames, page, frame);
      continue;
    }
    for (let undo = first; undo < page; undo++) kernel.host.frames.drop(runGet(memory, frames, undo) as Frame);
    freeRun(memory, frames);
    fail('ENOMEM', 'host RAM is used up');
  }
}

/** mmap(2) of the file, from a page of it on. EBADF, EINVAL beyond its end, EEXIST, ENOMEM. */
export function mmapMemfd(kernel: Kernel, fd: number, firstPage: number, lengthBytes: number, writable: boolean, at: bigint | null): bigint {
  const memory = kernel.memory;
  const file = getMemfdFile(kernel, fd);
  try {
    const memfd = File.body.peek(memory, file) as Ref<'Memfd'>;
    const region = shareMemfd(kernel, memfd, firstPage, Math.ceil(lengthBytes / pageBytes), writable);
    Region.compound.poke(memory, region, Memfd.compound.peek(memory, memfd));
    return place(kernel, kernel.process, region, at);
  } finally {
    putFile(kernel, file);
  }
}

function shareMemfd(kernel: Kernel, memfd: Ref<'Memfd'>, firstPage: number, pages: number, writable: boolean): Ref<'Region'> {
  Memfd.lock.acquire(kernel.memory, memfd);
  try {
    if (firstPage + pages > Memfd.pages.read(kernel.memory, memfd)) fail('EINVAL', 'the mapping is longer than the file');
    return shareRun(kernel, Memfd.frames.read(kernel.memory, memfd), firstPage, pages, writable);
  } finally {
    Memfd.lock.release(kernel.memory, memfd);
  }
}

/**
 * Pins `count` whole pages of a file, from `first` on, into `frames[at..at + count)` (`memfd_pin_folios`). EINVAL for a file that is not in
 * memory, and beyond the file's end.
 */
export function pinFilePages(kernel: Kernel, file: Ref<'File'>, first: number, count: number, frames: Ref<'Run'>, at: number): void {
  const memory = kernel.memory;
  if (File.kind.peek(memory, file) !== FileKind.MEMFD) fail('EINVAL', 'the file is not in memory');
  const memfd = File.body.peek(memory, file) as Ref<'Memfd'>;
  Memfd.lock.acquire(memory, memfd);
  try {
    if (BigInt(first + count) * BigInt(pageBytes) > Memfd.endByte.peekBig(memory, memfd)) fail('EINVAL', 'the file ends before the last page');
    if (memory.faults !== null && memory.faults.refuses('a pin')) fail('ENOMEM', 'the pages cannot be pinned');
    const from = Memfd.frames.read(memory, memfd);
    for (let page = 0; page < count; page++) {
      const frame = runGet(memory, from, first + page) as Frame;
      kernel.host.frames.pin(frame);
      runSet(memory, frames, at + page, frame);
    }
  } finally {
    Memfd.lock.release(memory, memfd);
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
  Memfd.lock.acquire(kernel.memory, memfd);
  resize(kernel, memfd, 0);
  Memfd.lock.release(kernel.memory, memfd);
  Memfd.free(kernel.memory, memfd);
}
