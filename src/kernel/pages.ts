/**
 * A stretch of a process's memory, a file or a dma-buf that areas map (`struct iopt_pages`): a page is pinned when the first domain is filled with
 * it, unpinned when the last one is emptied. It does not know which domains; `iopt-fill.ts` does.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runAdd, runGet, runZerosEnd, tryCreateRun } from '#hostmem/run';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { hpaOf, type Frame } from '#hostmem/memory';
import { readBytes, writeBytes } from './bytes.ts';
import { allocated, fail } from './errno.ts';
import type { Kernel } from './kernel.ts';
import { isDmabuf, pinSource, releaseSource, Source, unpinSource } from './page-source.ts';
import { isGone, userAddress, userWriteAddress } from './process.ts';
import { high, low, PAGE, pagesTouched } from './u64.ts';

export const Pages = object('Pages', {
  /** Areas that map it. */
  references: u32,
  mutex: mutex,
  /** Whose memory it is, and who is accounted; of a file's pages, the latter alone. It changes under `iovaRwsem` of every IOAS that maps it. */
  process: ref('Process'),
  /** `Payer`. */
  payer: u32,
  /** `Source`. */
  source: u32,
  /** The file or dma-buf, held open. */
  file: ref('File'),
  /** Where it begins, at a page: an address of the process, or an offset in the file. */
  userVa: u64,
  count: u32,
  writable: u32,
  /** Pages that are pinned and accounted. */
  pinned: u32,
  /** Of a dma-buf: the next of its importers, whether it was revoked since, and in which domains it is. */
  nextImporter: ref('Pages'),
  revoked: u32.under('mutex'),
  mappings: ref('DmabufMapping').under('mutex'),
  /** Areas in domains that hold translations to these pages. */
  fills: u32.under('mutex'),
  /** While `fills` is not 0: `count` frames, then for each how many fills it has; those with any are pinned. */
  frames: ref('Run').under('mutex'),
});

/** All pages that `length` bytes from `userVa` on touch, of the memory of a process that nobody accounts. ENOMEM. */
export function createPages(kernel: Kernel, process: Ref<'Process'>, userVa: bigint, length: bigint, writable: boolean): Ref<'Pages'> {
  const memory = kernel.memory;
  const count = pagesTouched(userVa, length);
  const pages = allocated(Pages.tryCreate(memory));
  Pages.references.poke(memory, pages, 1);
  Pages.process.poke(memory, pages, process);
  Pages.userVa.poke(memory, pages, high(userVa), low(userVa) & ~0xfff);
  // Nobody pins until a domain is filled, so a range may be larger than any host: `pin` refuses it then.
  Pages.count.poke(memory, pages, Math.min(count, 0x7fffffff));
  Pages.writable.poke(memory, pages, writable ? 1 : 0);
  return pages;
}

/** One more area, or somebody who is about to make one. */
export function holdPages(kernel: Kernel, pages: Ref<'Pages'>): void {
  Pages.references.add(kernel.memory, pages, 1);
}

export function putPages(kernel: Kernel, pages: Ref<'Pages'>): void {
  if (Pages.references.add(kernel.memory, pages, -1) !== 1) return;
  releaseSource(kernel, pages);
  Pages.free(kernel.memory, pages);
}

/** Accounts one more domain that is filled with `count` pages from `first` on; pages without any are pinned. The caller holds `mutex`. EFAULT, ENOMEM. */
export function addFill(kernel: Kernel, pages: Ref<'Pages'>, first: number, count: number): void {
  const memory = kernel.memory;
  if (count > kernel.host.frames.count) fail('EFAULT', `of ${count} pages some are absent: the host has fewer`);
  if (Pages.fills.read(memory, pages) === 0) Pages.frames.write(memory, pages, allocated(tryCreateRun(memory, Pages.count.peek(memory, pages) * 2)));
  const frames = Pages.frames.read(memory, pages);
  try {
    pinMissing(kernel, pages, frames, first, first + count);
  } catch (error) {
    if (Pages.fills.read(memory, pages) === 0) freeFrames(kernel, pages);
    throw error;
  }
  countFills(kernel, pages, frames, first, count, 1);
}

/** One filled domain less; pages without any are unpinned. Every invalidation is complete by now. The caller holds `mutex`. */
export function dropFill(kernel: Kernel, pages: Ref<'Pages'>, first: number, count: number): void {
  const frames = Pages.frames.read(kernel.memory, pages);
  countFills(kernel, pages, frames, first, count, -1);
  kernel.operations.pages.unpinUnfilled(kernel, pages, frames, first, first + count);
  if (Pages.fills.read(kernel.memory, pages) === 0) freeFrames(kernel, pages);
}

/** An area that `domains` are filled with has become two; each page is in one of them, as often as before. The caller holds `mutex`. */
export function splitFills(kernel: Kernel, pages: Ref<'Pages'>, domains: number): void {
  Pages.fills.write(kernel.memory, pages, Pages.fills.read(kernel.memory, pages) + domains);
}

/** The frame of page `index`. The caller holds `mutex` and a fill. */
export function pinnedFrame(kernel: Kernel, pages: Ref<'Pages'>, index: number): Frame {
  return runGet(kernel.memory, Pages.frames.read(kernel.memory, pages), index) as Frame;
}

function freeFrames(kernel: Kernel, pages: Ref<'Pages'>): void {
  freeRun(kernel.memory, Pages.frames.read(kernel.memory, pages));
  Pages.frames.write(kernel.memory, pages, NULL);
}

/** Pins those of `[first, end)` that no domain has yet, or none of them. */
function pinMissing(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, first: number, end: number): void {
  let at = first;
  try {
    for (let stop = unfilledEnd(kernel, pages, frames, at, end); at < end; stop = unfilledEnd(kernel, pages, frames, at, end)) {
      if (stop > at) pinSource(kernel, pages, frames, at, stop - at);
      at = stop > at ? stop : at + 1;
    }
  } catch (error) {
    kernel.operations.pages.unpinUnfilled(kernel, pages, frames, first, at);
    throw error;
  }
}

/** Unpins those of `[first, end)` that no domain and no access has (`iopt_area_unpin_domain`). */
export function unpinUnfilled(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, first: number, end: number): void {
  for (let at = first; at < end; ) {
    const stop = unfilledEnd(kernel, pages, frames, at, end);
    if (stop > at) unpinSource(kernel, pages, frames, at, stop - at);
    at = stop > at ? stop : at + 1;
  }
}

/** Where the stretch of pages that no domain has, and that begins at `at`, ends. */
export function unfilledEnd(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, at: number, end: number): number {
  const fills = Pages.count.peek(kernel.memory, pages);
  return runZerosEnd(kernel.memory, frames, fills + at, fills + end) - fills;
}

function countFills(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, first: number, count: number, change: number): void {
  const memory = kernel.memory;
  runAdd(memory, frames, Pages.count.peek(memory, pages) + first, count, change);
  Pages.fills.write(memory, pages, Pages.fills.read(memory, pages) + change);
}

/** How bytes are copied: `slow` makes the caller a stranger to the process whose memory it is, as the selftest asks for. */
export interface Copy { readonly write: boolean; readonly slow?: boolean }

/**
 * Copies between a buffer and the pages, from `startByte` on (`iopt_pages_rw_access`): by the mapping of the process whose memory it is, as it
 * is now, if that process calls or has a single page to show; else by what is pinned, or would be. EFAULT, ENOMEM, EINVAL for a dma-buf;
 * what was copied before stays.
 */
export function copyPages(kernel: Kernel, pages: Ref<'Pages'>, startByte: bigint, buffer: Uint8Array, copy: Copy): void {
  const memory = kernel.memory;
  if (isDmabuf(kernel, pages)) fail('EINVAL', 'the kernel does not copy to or out of a dma-buf');
  const isOwn = Pages.process.peek(memory, pages) === kernel.process && copy.slow !== true;
  const onePage = startByte % PAGE + BigInt(buffer.length) <= PAGE;
  const byMapping = Pages.source.peek(memory, pages) === Source.MEMORY && (isOwn || (onePage && !isGone(kernel, Pages.process.peek(memory, pages))));
  if (byMapping) copyByMapping(kernel, pages, startByte, buffer, copy.write);
  else copyByPins(kernel, pages, startByte, buffer, copy.write);
}

function copyByPins(kernel: Kernel, pages: Ref<'Pages'>, startByte: bigint, buffer: Uint8Array, write: boolean): void {
  const first = Number(startByte / PAGE);
  const count = Number((startByte + BigInt(buffer.length) - 1n) / PAGE) - first + 1;
  Pages.mutex.acquire(kernel.memory, pages);
  try {
    addFill(kernel, pages, first, count);
    const start = Number(startByte % PAGE);
    for (let page = 0, done = 0; page < count; page++) {
      const offset = page === 0 ? start : 0;
      const bytes = Math.min(4096 - offset, buffer.length - done);
      moveBytes(kernel, hpaOf(pinnedFrame(kernel, pages, first + page)) + offset, buffer.subarray(done, done + bytes), write);
      done += bytes;
    }
    dropFill(kernel, pages, first, count);
  } finally {
    Pages.mutex.release(kernel.memory, pages);
  }
}

function copyByMapping(kernel: Kernel, pages: Ref<'Pages'>, startByte: bigint, buffer: Uint8Array, write: boolean): void {
  const process = Pages.process.peek(kernel.memory, pages);
  const va = Pages.userVa.peekBig(kernel.memory, pages) + startByte;
  for (let done = 0; done < buffer.length; ) {
    const from = va + BigInt(done);
    const at = write ? userWriteAddress(kernel, process, from) : userAddress(kernel, process, from);
    const part = buffer.subarray(done, done + 4096 - Number(from % PAGE));
    moveBytes(kernel, at, part, write);
    done += part.length;
  }
}

function moveBytes(kernel: Kernel, at: number, buffer: Uint8Array, write: boolean): void {
  if (write) writeBytes(kernel.host.ram, at, buffer);
  else readBytes(kernel.host.ram, at, buffer);
}
