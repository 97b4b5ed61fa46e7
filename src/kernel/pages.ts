/**
 * A stretch of a process's memory that areas map (`struct iopt_pages`): pinned when the first domain is filled, unpinned
 * when the last one is emptied. It does not know which domains; `iopt.ts` does.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32, u64 } from '#hostmem/struct';
import type { Frame } from '#hostmem/memory';
import { allocated, fail } from './errno.ts';
import type { Kernel } from './kernel.ts';
import { pinPages, unpinPages } from './process.ts';

export const Pages = object('Pages', {
  /** Areas that map it. */
  references: u32,
  mutex: mutex,
  process: ref('Process'),
  userVa: u64,
  count: u32,
  writable: u32,
  /** Domains that hold translations to these pages; the frames are pinned while it is not 0. */
  fills: u32.under('mutex'),
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

export function putPages(kernel: Kernel, pages: Ref<'Pages'>): void {
  if (Pages.references.add(kernel.memory, pages, -1) === 1) Pages.free(kernel.memory, pages);
}

/** Accounts one more filled domain; the first pins. The caller holds `mutex`. EFAULT, ENOMEM. */
export function addFill(kernel: Kernel, pages: Ref<'Pages'>): void {
  const memory = kernel.memory;
  const fills = Pages.fills.read(memory, pages);
  if (fills === 0) pin(kernel, pages);
  Pages.fills.write(memory, pages, fills + 1);
}

function pin(kernel: Kernel, pages: Ref<'Pages'>): void {
  const memory = kernel.memory;
  const count = Pages.count.peek(memory, pages);
  if (count > kernel.host.frames.count) fail('EFAULT', `of ${count} pages some are absent: the host has fewer`);
  const frames = allocated(tryCreateRun(memory, count));
  try {
    const va = Pages.userVa.peekBig(memory, pages);
    pinPages(kernel, Pages.process.peek(memory, pages), va, count, Pages.writable.peek(memory, pages) !== 0, frames);
  } catch (error) {
    freeRun(memory, frames);
    throw error;
  }
  Pages.frames.write(memory, pages, frames);
}

/** One filled domain less; the last unpins. Every invalidation is complete by now. The caller holds `mutex`. */
export function dropFill(kernel: Kernel, pages: Ref<'Pages'>): void {
  const memory = kernel.memory;
  const fills = Pages.fills.read(memory, pages) - 1;
  Pages.fills.write(memory, pages, fills);
  if (fills > 0) return;
  const frames = Pages.frames.read(memory, pages);
  unpinPages(kernel, Pages.process.peek(memory, pages), frames, Pages.count.peek(memory, pages));
  freeRun(memory, frames);
  Pages.frames.write(memory, pages, NULL);
}

/** The frame of page `index`. The caller holds `mutex` and a fill. */
export function pinnedFrame(kernel: Kernel, pages: Ref<'Pages'>, index: number): Frame {
  return runGet(kernel.memory, Pages.frames.read(kernel.memory, pages), index) as Frame;
}
