/** Walks over the records of confidential guests, for invariants. As no point; for a host that stands still. */
import type { Frame } from '#hostmem/memory';
import { NULL } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { KernelRoot } from '../kernel/kernel.ts';
import { Tvm } from '../kernel/tvm.ts';
import type { View } from './view.ts';

/** A confidential guest, by its number, and the pages that its own allocator has free. */
interface ConfidentialGuest {
  readonly guest: number;
  readonly free: readonly { readonly page: number; readonly frame: Frame }[];
}

export function confidentialGuests(view: View): ConfidentialGuest[] {
  const memory = view.host.kernel;
  const found: ConfidentialGuest[] = [];
  for (let at = KernelRoot.tvms.peek(memory, view.root); at !== NULL; at = Tvm.next.peek(memory, at)) {
    const bits = Tvm.freePages.peek(memory, at);
    const frames = Tvm.frames.peek(memory, at);
    const pages = Array.from({ length: 32 }, (_, page) => page).filter((page) => ((bits >>> page) & 1) !== 0);
    found.push({ guest: Tvm.guest.peek(memory, at), free: pages.map((page) => ({ page, frame: runGet(memory, frames, page) as Frame })) });
  }
  return found;
}
