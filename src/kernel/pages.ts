/**
 * A stretch of a process's memory that areas map (`struct iopt_pages`): a page is pinned when the first domain is filled with
 * it, unpinned when the last one is emptied. It does not know which domains; `iopt-fill.ts` does.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { hpaOf, type Frame } from '#hostmem/memory';
import { readBytes, writeBytes } from './bytes.ts';
import { allocated, fail } from './errno.ts';
import type { Kernel } from './kernel.ts';
import { pinPages, unpinPages, userAddress, userWriteAddress } from './process.ts';
import { PAGE } from './u64.ts';

export const Pages = object('Pages', {
  /** Areas that map it. */
  references: u32,
  mutex: mutex,
  process: ref('Process'),
  userVa: u64,
  count: u32,
  writable: u32,
  /** Areas in domains that hold translations to these pages. */
  fills: u32.under('mutex'),
  /** While `fills` is not 0: `count` frames, then for each how many fills it has; those with any are pinned. */
  frames: ref('Run').under('mutex'),
});

/** `userVa` need not be page aligned; `count` covers every page that the range touches. ENOMEM. */
export function createPages(kernel: Kernel, process: Ref<'Process'>, userVa: bigint, count: number, writable: boolean): Ref<'Pages'> {
  const memory = kernel.memory;
  const pages = allocated(Pages.tryCreate(memory));
  Pages.references.poke(memory, pages, 1);
  Pages.process.poke(memory, pages, process);
  Pages.userVa.pokeBig(memory, pages, userVa & ~0xfffn);
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
  if (Pages.references.add(kernel.memory, pages, -1) === 1) Pages.free(kernel.memory, pages);
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
  const memory = kernel.memory;
  const process = Pages.process.peek(memory, pages);
  const va = Pages.userVa.peekBig(memory, pages);
  const write = Pages.writable.peek(memory, pages) !== 0;
  let at = first;
  try {
    for (let stop = unfilledEnd(kernel, pages, frames, at, end); at < end; stop = unfilledEnd(kernel, pages, frames, at, end)) {
      if (stop > at) pinPages(kernel, process, va + BigInt(at) * 4096n, stop - at, write, frames, at);
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
    if (stop > at) unpinPages(kernel, Pages.process.peek(kernel.memory, pages), frames, at, stop - at);
    at = stop > at ? stop : at + 1;
  }
}

/** Where the stretch of pages that no domain has, and that begins at `at`, ends. */
export function unfilledEnd(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, at: number, end: number): number {
  const fills = Pages.count.peek(kernel.memory, pages);
  let stop = at;
  while (stop < end && runGet(kernel.memory, frames, fills + stop) === 0) stop++;
  return stop;
}

function countFills(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, first: number, count: number, change: number): void {
  const memory = kernel.memory;
  const fills = Pages.count.peek(memory, pages);
  for (let page = fills + first; page < fills + first + count; page++) runSet(memory, frames, page, runGet(memory, frames, page) + change);
  Pages.fills.write(memory, pages, Pages.fills.read(memory, pages) + change);
}

/**
 * Copies between a buffer and the pages, from `startByte` on (`iopt_pages_rw_access`). One page goes by the owner's mapping as it is now,
 * several go by what is pinned, or would be. EFAULT, ENOMEM; what was copied before stays.
 */
export function copyPages(kernel: Kernel, pages: Ref<'Pages'>, startByte: bigint, buffer: Uint8Array, write: boolean): void {
  const first = Number(startByte / PAGE);
  const count = Number((startByte + BigInt(buffer.length) - 1n) / PAGE) - first + 1;
  if (count === 1) {
    copyByMapping(kernel, pages, startByte, buffer, write);
    return;
  }
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
  const at = write ? userWriteAddress(kernel, process, va) : userAddress(kernel, process, va);
  moveBytes(kernel, at, buffer, write);
}

function moveBytes(kernel: Kernel, at: number, buffer: Uint8Array, write: boolean): void {
  if (write) writeBytes(kernel.host.ram, at, buffer);
  else readBytes(kernel.host.ram, at, buffer);
}
