/**
 * Registers that a driver shows user space through the iommufd itself (`iommufd_fops_mmap`, main.c): a vIOMMU's page of doorbells, say. Who
 * maps them names the offset that the driver's answer told; meanwhile their owner is in use.
 */
import { pageBytes, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { getFile, putFile } from './file.ts';
import { File, FileKind } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { Iommufd, IommufdObject, type ObjectRef } from './objects.ts';
import { place } from './process.ts';
import { keep, shareRun } from './region.ts';

/** `struct iommufd_mmap`. Sorted by offset. */
export const ShownRegisters = object('ShownRegisters', {
  owner: ref('IommufdObject'),
  offset: u64,
  pages: u32,
  frames: ref('Run'),
  next: ref('ShownRegisters'),
});

export interface MmapIommufd {
  readonly offset: bigint;
  readonly lengthBytes: number;
  readonly shared: boolean;
  readonly writable: boolean;
  readonly executable: boolean;
  readonly at: bigint | null;
}

/** Shows consecutive frames of an object's; returns their offset in the file, the lowest that is free. ENOMEM. */
export function showRegisters(kernel: Kernel, owner: ObjectRef, firstFrame: Frame, pages: number): bigint {
  const memory = kernel.memory;
  const shown = allocated(ShownRegisters.tryCreate(memory));
  const frames = tryCreateRun(memory, pages);
  if (frames === NULL) ShownRegisters.free(memory, shown);
  for (let page = 0; page < pages; page++) runSet(memory, allocated(frames), page, firstFrame + page);
  ShownRegisters.owner.poke(memory, shown, owner);
  ShownRegisters.pages.poke(memory, shown, pages);
  ShownRegisters.frames.poke(memory, shown, frames);
  return link(kernel, IommufdObject.iommufd.peek(memory, owner), shown);
}

/** The first page of the file is never given away. */
function link(kernel: Kernel, iommufd: Ref<'Iommufd'>, shown: Ref<'ShownRegisters'>): bigint {
  const memory = kernel.memory;
  let offset = BigInt(pageBytes);
  Iommufd.mmapLock.acquire(memory, iommufd);
  let before: Ref<'ShownRegisters'> = NULL;
  let at: Ref<'ShownRegisters'> = Iommufd.shownRegisters.read(memory, iommufd);
  while (at !== NULL && ShownRegisters.offset.peekBig(memory, at) < offset + bytesOf(kernel, shown)) {
    offset = ShownRegisters.offset.peekBig(memory, at) + bytesOf(kernel, at);
    before = at;
    at = ShownRegisters.next.peek(memory, at);
  }
  ShownRegisters.offset.pokeBig(memory, shown, offset);
  ShownRegisters.next.poke(memory, shown, at);
  if (before === NULL) Iommufd.shownRegisters.write(memory, iommufd, shown);
  else ShownRegisters.next.poke(memory, before, shown);
  Iommufd.mmapLock.release(memory, iommufd);
  return offset;
}

/** Nobody can map an object's registers any more, and nobody does. */
export function hideRegisters(kernel: Kernel, owner: ObjectRef): void {
  const memory = kernel.memory;
  const iommufd = IommufdObject.iommufd.peek(memory, owner);
  Iommufd.mmapLock.acquire(memory, iommufd);
  let before: Ref<'ShownRegisters'> = NULL;
  let at: Ref<'ShownRegisters'> = Iommufd.shownRegisters.read(memory, iommufd);
  while (at !== NULL && ShownRegisters.owner.peek(memory, at) !== owner) {
    before = at;
    at = ShownRegisters.next.peek(memory, at);
  }
  if (at !== NULL) {
    const next = ShownRegisters.next.peek(memory, at);
    if (before === NULL) Iommufd.shownRegisters.write(memory, iommufd, next);
    else ShownRegisters.next.poke(memory, before, next);
  }
  Iommufd.mmapLock.release(memory, iommufd);
  if (at === NULL) return;
  freeRun(memory, ShownRegisters.frames.peek(memory, at));
  ShownRegisters.free(memory, at);
}

/**
 * mmap(2) of an iommufd. EBADF; EINVAL for an offset that is not aligned, no length or a private mapping; EPERM for an executable one; ENXIO
 * where nothing is shown, or not just this much; EEXIST, ENOMEM.
 */
export function mmapIommufd(kernel: Kernel, fd: number, asked: MmapIommufd): bigint {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.IOMMUFD) fail('ENODEV', `descriptor ${fd} cannot be mapped`);
    if (asked.offset % BigInt(pageBytes) !== 0n || asked.lengthBytes === 0 || !asked.shared) fail('EINVAL', 'not aligned, empty or private');
    if (asked.executable) fail('EPERM', 'registers are not executed');
    return place(kernel, kernel.process, openRegion(kernel, file, asked), asked.at);
  } finally {
    putFile(kernel, file);
  }
}

/** A region over the registers at an offset; it keeps the file open and the owner in use. ENXIO, ENOMEM. */
function openRegion(kernel: Kernel, file: Ref<'File'>, { offset, lengthBytes, writable }: MmapIommufd): Ref<'Region'> {
  const memory = kernel.memory;
  const iommufd = File.body.peek(memory, file) as Ref<'Iommufd'>;
  const pages = Math.ceil(lengthBytes / pageBytes);
  Iommufd.mmapLock.acquire(memory, iommufd);
  try {
    let at: Ref<'ShownRegisters'> = Iommufd.shownRegisters.read(memory, iommufd);
    while (at !== NULL && ShownRegisters.offset.peekBig(memory, at) !== offset) at = ShownRegisters.next.peek(memory, at);
    if (at === NULL || ShownRegisters.pages.peek(memory, at) !== pages) fail('ENXIO', 'no registers are there, or not so many');
    const owner = ShownRegisters.owner.peek(memory, at);
    if (IommufdObject.users.load(memory, owner) === 0) fail('ENXIO', 'the object that shows them is going');
    const region = shareRun(kernel, ShownRegisters.frames.peek(memory, at), 0, pages, writable);
    keep(kernel, region, file, owner);
    return region;
  } finally {
    Iommufd.mmapLock.release(memory, iommufd);
  }
}

const bytesOf = (kernel: Kernel, shown: Ref<'ShownRegisters'>): bigint => BigInt(ShownRegisters.pages.peek(kernel.memory, shown) * pageBytes);
