/**
 * A confidential VM: its memory page by page, each private or shared, and the pages that its own kernel has free.
 *
 * Conversion is in place: the frame stays, what changes is who may see it. The host's mapping of a shared page stays where it is as well;
 * from the block on the ownership check stands before it, and caches are flushed before the page is used in its new role (SEMANTICS f.3 X2;
 * a host that has to unmap first flushes then).
 */
import { guestOf, seenBy, Visibility, visibilityOf } from '#hostmem/frames';
import { mutex } from '#hostmem/locks';
import { pageShift, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { object, ref, u32 } from '#hostmem/struct';
import { fail } from './errno.ts';
import { GuestPageFreed, PageBlocked, PageConverted } from './events.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import { Process } from './process.ts';

export const Tvm = object('Tvm', {
  /** Its number among guests: that of its VMM's process. */
  guest: u32,
  frames: ref('Run'),
  pages: u32,
  /** Held over a conversion, which the host and the guest do together. */
  conversion: mutex,
  /** How many more conversions to shared the host answers before it refuses one; -1: any number. */
  patience: u32.under('conversion'),
  /** The guest's own page allocator: a bit for each of its first 32 pages that is free. */
  freeLock: mutex,
  freePages: u32.under('freeLock'),
  next: ref('Tvm'),
});

/** A confidential VM of a process: all its pages are private and accepted, but those that `shared` names. While a world is built. */
export function createTvm(kernel: Kernel, process: Ref<'Process'>, frames: Ref<'Run'>, pages: number, shared: readonly number[], free: readonly number[]): Ref<'Tvm'> {
  const memory = kernel.memory;
  const guest = Process.number.peek(memory, process);
  const tvm = Tvm.create(memory);
  Tvm.guest.poke(memory, tvm, guest);
  Tvm.frames.poke(memory, tvm, frames);
  Tvm.pages.poke(memory, tvm, pages);
  Tvm.patience.poke(memory, tvm, -1);
  Tvm.freePages.poke(memory, tvm, free.reduce((bits, page) => bits | (1 << page), 0));
  for (let page = 0; page < pages; page++) {
    const visibility = shared.includes(page) ? Visibility.SHARED : Visibility.PRIVATE;
    kernel.host.frames.pokeVisibility(guestFrame(kernel, tvm, page), seenBy(visibility, guest));
  }
  Tvm.next.poke(memory, tvm, KernelRoot.tvms.peek(memory, kernel.root));
  KernelRoot.tvms.poke(memory, kernel.root, tvm);
  return tvm;
}

/** The frame behind a page of the guest, by its number. */
export const guestFrame = (kernel: Kernel, tvm: Ref<'Tvm'>, page: number): Frame =>
  runGet(kernel.memory, Tvm.frames.peek(kernel.memory, tvm), page) as Frame;

/**
 * The guest asks for the page as private, and accepts it: blocked for everybody, flushed from the caches of both contexts, then accepted.
 * EINVAL when it is not shared.
 */
export function convertToPrivate(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void {
  Tvm.conversion.acquire(kernel.memory, tvm);
  try {
    convert(kernel, tvm, page, Visibility.SHARED, Visibility.PRIVATE);
  } finally {
    Tvm.conversion.release(kernel.memory, tvm);
  }
}

/** The guest gives the page up to the host's eyes: blocked, flushed, then shared. EINVAL when it is not private, EIO when the host refuses. */
export function convertToShared(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void {
  const memory = kernel.memory;
  Tvm.conversion.acquire(memory, tvm);
  try {
    const patience = Tvm.patience.read(memory, tvm);
    if (patience >= 0) Tvm.patience.write(memory, tvm, patience - 1);
    if (patience === 0) fail('EIO', 'the host refuses the conversion');
    convert(kernel, tvm, page, Visibility.PRIVATE, Visibility.SHARED);
  } finally {
    Tvm.conversion.release(memory, tvm);
  }
}

/** Under `Tvm.conversion`. */
function convert(kernel: Kernel, tvm: Ref<'Tvm'>, page: number, from: Visibility, to: Visibility): void {
  const frames = kernel.host.frames;
  const frame = guestFrame(kernel, tvm, page);
  const guest = Tvm.guest.peek(kernel.memory, tvm);
  const before = frames.readVisibility(frame);
  if (visibilityOf(before) !== from || guestOf(before) !== guest) fail('EINVAL', `page ${page} is not what it would be converted from`);
  frames.writeVisibility(frame, seenBy(Visibility.PENDING, guest));
  PageBlocked.emit(kernel.memory, frame, guest);
  kernel.operations.confidential.flushConverted(kernel, tvm, page);
  // Told before: from the write on others reach it.
  PageConverted.emit(kernel.memory, frame, guest, to);
  frames.writeVisibility(frame, seenBy(to, guest));
}

/** `count` pages in a row that are the guest's alone, or ENOMEM; returns the first. */
export function allocateGuestPages(kernel: Kernel, tvm: Ref<'Tvm'>, count: number): number {
  const memory = kernel.memory;
  Tvm.freeLock.acquire(memory, tvm);
  const free = Tvm.freePages.read(memory, tvm);
  const wanted = (1 << count) - 1;
  let page = 0;
  while (page + count <= 31 && ((free >>> page) & wanted) !== wanted) page++;
  const found = page + count <= 31;
  if (found) Tvm.freePages.write(memory, tvm, free & ~(wanted << page));
  Tvm.freeLock.release(memory, tvm);
  if (!found) fail('ENOMEM', 'the guest has no free pages');
  return page;
}

/** Gives a page back to the guest's allocator, which hands it out as it is. */
export function freeGuestPage(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void {
  const memory = kernel.memory;
  Tvm.freeLock.acquire(memory, tvm);
  Tvm.freePages.write(memory, tvm, Tvm.freePages.read(memory, tvm) | (1 << page));
  GuestPageFreed.emit(memory, guestFrame(kernel, tvm, page), Tvm.guest.peek(memory, tvm));
  Tvm.freeLock.release(memory, tvm);
}

/** Memory that the host may see (`dma_alloc_coherent` in a confidential guest). ENOMEM, EIO; the pages of a failure are `giveUp`'s. */
export function allocateShared(kernel: Kernel, tvm: Ref<'Tvm'>, count: number): number {
  const first = allocateGuestPages(kernel, tvm, count);
  try {
    for (let page = first; page < first + count; page++) convertToShared(kernel, tvm, page);
  } catch (error) {
    kernel.operations.confidential.giveUp(kernel, tvm, first, count);
    throw error;
  }
  return first;
}

/** Undoes `allocateShared`: each page is private again before anybody else gets it. */
export function freeShared(kernel: Kernel, tvm: Ref<'Tvm'>, first: number, count: number): void {
  for (let page = first; page < first + count; page++) {
    convertToPrivate(kernel, tvm, page);
    freeGuestPage(kernel, tvm, page);
  }
}

/**
 * What becomes of pages whose conversion failed midway: nobody knows which of them the host can see, so that none is ever used again
 * (b9fa16949d18, CVE-2024-35939).
 */
export function keepBack(): void {}

/** Address of a page as the guest knows it. */
export const gpaOf = (page: number): number => page << pageShift;
