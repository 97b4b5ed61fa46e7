/**
 * fork(2) and exit(2): how a process comes from another, and how it goes.
 */
import { NULL, type Ref } from '#hostmem/object';
import { callBegan, callEnded } from './call-events.ts';
import { closeAll, shareFiles } from './file.ts';
import type { Kernel } from './kernel.ts';
import { createProcess, insertRegion, munmapAll, ownerOf, Process } from './process.ts';
import { copyRegion, Region, shareRegion } from './region.ts';
import { big } from './u64.ts';

/**
 * A child of the calling process: its shared memory, copies of its private memory, its descriptors, its user, capabilities and limits. It has
 * nothing pinned: pins stay the parent's. ENOMEM.
 */
export function fork(kernel: Kernel, number: number): Ref<'Process'> {
  const memory = kernel.memory;
  const parent = kernel.process;
  const child = createProcess(kernel, number, Process.user.peek(memory, parent));
  Process.capabilities.poke(memory, child, Process.capabilities.peek(memory, parent));
  Process.lockLimitPages.poke(memory, child, Process.lockLimitPages.peek(memory, parent));
  try {
    giveMemory(kernel, parent, child);
    shareFiles(kernel, parent, child);
    return child;
  } catch (error) {
    kernel.enter(child);
    exit(kernel);
    kernel.enter(parent);
    Process.free(memory, child);
    throw error;
  }
}

function giveMemory(kernel: Kernel, from: Ref<'Process'>, to: Ref<'Process'>): void {
  const memory = kernel.memory;
  Process.mmapLock.acquireRead(memory, from);
  Process.mmapLock.acquireWrite(memory, to);
  try {
    let node = Process.regions.first(memory, from, 0, 0, -1, -1);
    for (; node !== NULL; node = Process.regions.next(memory, from, node, 0, 0, -1, -1)) {
      const region = Process.regions.value(memory, node) as Ref<'Region'>;
      const start = big(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
      insertRegion(kernel, to, start, inherited(kernel, region, to));
    }
    Process.mmapTop.pokeBig(memory, to, Process.mmapTop.peekBig(memory, from));
  } finally {
    Process.mmapLock.releaseWrite(memory, to);
    Process.mmapLock.releaseRead(memory, from);
  }
}

/** Linux copies a private page when either writes to it, and a pinned one at once; nobody can tell. */
function inherited(kernel: Kernel, region: Ref<'Region'>, child: Ref<'Process'>): Ref<'Region'> {
  const memory = kernel.memory;
  if (Region.isPrivate.peek(memory, region) === 0) return shareRegion(kernel, region, 0, Region.pages.peek(memory, region));
  return copyRegion(kernel, region, ownerOf(Process.number.peek(memory, child)));
}

/** The calling process ends: its memory goes first, then its files. What is pinned of it stays pinned; nobody can pin more. */
export function exit(kernel: Kernel): void {
  const call = callBegan(kernel, 'exit');
  munmapAll(kernel, kernel.process);
  closeAll(kernel, kernel.process);
  callEnded(kernel, call, 0);
}
