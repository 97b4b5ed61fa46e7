/**
 * Where the frames of a `Pages` come from (`enum iopt_address_type`): a process's memory, a file, or a dma-buf, whose frames are a device's
 * registers and neither pinned nor accounted. It does not know why a page is wanted.
 */
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { runSet } from '#hostmem/run';
import { pageNumber } from '#hostmem/u64';
import { charge, uncharge } from './accounting.ts';
import { Dmabuf, leaveDmabuf } from './dmabuf.ts';
import { putFile } from './file.ts';
import { File } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { pinFilePages } from './memfd.ts';
import { Pages } from './pages.ts';
import { pinPages, unpinPages } from './process.ts';

export const Source = { MEMORY: 0, FILE: 1, DMABUF: 2 } as const;

export const isDmabuf = (kernel: Kernel, pages: Ref<'Pages'>): boolean => Pages.source.peek(kernel.memory, pages) === Source.DMABUF;

/**
 * Pins `count` pages from `at` on into the same places of `frames`, and accounts them. EFAULT for memory that is absent or read-only, EINVAL
 * for a file that ends before, ENOMEM over the limit of locked memory; then nothing stays pinned.
 */
export function pinSource(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, at: number, count: number): void {
  if (isDmabuf(kernel, pages)) {
    nameFrames(kernel, pages, frames, at, count);
    return;
  }
  pinUnaccounted(kernel, pages, frames, at, count);
  try {
    charge(kernel, Pages.process.peek(kernel.memory, pages), Pages.payer.peek(kernel.memory, pages), count);
  } catch (error) {
    unpinPages(kernel, frames, at, count);
    throw error;
  }
  Pages.pinned.poke(kernel.memory, pages, Pages.pinned.peek(kernel.memory, pages) + count);
}

function pinUnaccounted(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, at: number, count: number): void {
  const memory = kernel.memory;
  const first = firstPageOf(kernel, pages) + at;
  if (Pages.source.peek(memory, pages) === Source.FILE) {
    pinFilePages(kernel, Pages.file.peek(memory, pages), first, count, frames, at);
    return;
  }
  const write = Pages.writable.peek(memory, pages) !== 0;
  pinPages(kernel, Pages.process.peek(memory, pages), first, count, write, frames, at);
}

/** The page, of the process or of the file, that the pages begin at. */
function firstPageOf(kernel: Kernel, pages: Ref<'Pages'>): number {
  return pageNumber(Pages.userVa.peekHigh(kernel.memory, pages), Pages.userVa.peek(kernel.memory, pages));
}

/** A dma-buf is one physical range. */
function nameFrames(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, at: number, count: number): void {
  const memory = kernel.memory;
  const dmabuf = File.body.peek(memory, Pages.file.peek(memory, pages)) as Ref<'Dmabuf'>;
  const first = Dmabuf.firstFrame.peek(memory, dmabuf) + firstPageOf(kernel, pages);
  for (let page = at; page < at + count; page++) runSet(memory, frames, page, (first + page) as Frame);
}

/** Undoes `pinSource`. */
export function unpinSource(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, at: number, count: number): void {
  const memory = kernel.memory;
  if (isDmabuf(kernel, pages)) return;
  unpinPages(kernel, frames, at, count);
  Pages.pinned.poke(memory, pages, Pages.pinned.peek(memory, pages) - count);
  uncharge(kernel, Pages.process.peek(memory, pages), Pages.payer.peek(memory, pages), count);
}

/** Nobody maps the pages any more. */
export function releaseSource(kernel: Kernel, pages: Ref<'Pages'>): void {
  const file = Pages.file.peek(kernel.memory, pages);
  if (file === NULL) return;
  if (isDmabuf(kernel, pages)) leaveDmabuf(kernel, File.body.peek(kernel.memory, file) as Ref<'Dmabuf'>, pages);
  putFile(kernel, file);
}
