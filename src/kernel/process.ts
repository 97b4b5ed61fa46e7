/**
 * A process: an address space whose pages can be pinned, and a table of open files.
 *
 * Regions are anonymous shared memory, populated at once. Unmapping a region drops its pages; what is pinned stays
 * until unpinned (GROUP_STEPS 63). It does not know what pins.
 */
import { leafIdTable } from '#hostmem/id-table';
import { intervalTree, type IntervalNode } from '#hostmem/interval-tree';
import { rwsem } from '#hostmem/locks';
import { hpaOf, pageBytes, type Frame, type Hpa } from '#hostmem/memory';
import { Owner } from '#hostmem/frames';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32, u64 } from '#hostmem/struct';
import type { Kernel } from './kernel.ts';
import { allocated, fail } from './errno.ts';
import { big, high, low } from './u64.ts';

export const Process = object('Process', {
  number: u32,
  mmapLock: rwsem,
  regions: intervalTree.under('mmapLock'),
  /** Where the next region goes, downwards. */
  mmapTop: u64,
  files: leafIdTable,
  /** Pages pinned for this process; VmPin is four times that in KiB. */
  pinnedPages: u32,
  next: ref('Process'),
});

const Region = object('Region', {
  pages: u32,
  writable: u32,
  /** Its pages are parts of larger ones (hugetlb). */
  compound: u32,
  frames: ref('Run'),
});

const firstMmapTop = 0x7fff_f7ff_6000n;

/** A new process without memory or files. */
export function createProcess(kernel: Kernel, number: number): Ref<'Process'> {
  const memory = kernel.memory;
  const process = Process.create(memory);
  Process.number.poke(memory, process, number);
  Process.mmapTop.pokeBig(memory, process, firstMmapTop);
  return process;
}

/** Who owns the frames of a process (`Frames.ownerOf`). */
export const ownerOf = (processNumber: number): number => Owner.firstProcess + processNumber;

/** Maps `lengthBytes` (a multiple of 4096) of zeroed memory at `at`, or below the last mapping. ENOMEM, EEXIST. */
export function mmap(kernel: Kernel, process: Ref<'Process'>, lengthBytes: number, writable: boolean, at: bigint | null): bigint {
  const pages = Math.ceil(lengthBytes / pageBytes);
  return place(kernel, process, createRegion(kernel, process, pages, writable), pages, at);
}

/** Maps the first pages of a file's, which stay the file's too. Otherwise as `mmap`. */
export function mmapShared(
  kernel: Kernel, process: Ref<'Process'>, frames: Ref<'Run'>, pages: number, writable: boolean, at: bigint | null,
): bigint {
  const region = emptyRegion(kernel, pages, writable);
  shareInto(kernel, frames, 0, region);
  return place(kernel, process, region, pages, at);
}

/** The pages from `va` on are parts of larger ones. */
export function markCompound(kernel: Kernel, process: Ref<'Process'>, va: bigint): void {
  const memory = kernel.memory;
  const node = Process.regions.first(memory, process, high(va), low(va), high(va), low(va));
  Region.compound.poke(memory, Process.regions.value(memory, node) as Ref<'Region'>, 1);
}

/** Puts a region where the caller wants it, or below the last one; it is freed when that fails. */
function place(kernel: Kernel, process: Ref<'Process'>, region: Ref<'Region'>, pages: number, at: bigint | null): bigint {
  const memory = kernel.memory;
  Process.mmapLock.acquireWrite(memory, process);
  try {
    const start = at ?? Process.mmapTop.peekBig(memory, process) - BigInt(pages * pageBytes);
    const last = start + BigInt(pages * pageBytes) - 1n;
    if (Process.regions.first(memory, process, high(start), low(start), high(last), low(last)) !== NULL) {
      freeRegion(kernel, region);
      fail('EEXIST', 'something is mapped there');
    }
    insertRegion(kernel, process, start, region);
    if (at === null) Process.mmapTop.pokeBig(memory, process, start);
    return start;
  } finally {
    Process.mmapLock.releaseWrite(memory, process);
  }
}

function createRegion(kernel: Kernel, process: Ref<'Process'>, pages: number, writable: boolean): Ref<'Region'> {
  const memory = kernel.memory;
  const region = emptyRegion(kernel, pages, writable);
  const frames = Region.frames.peek(memory, region);
  const owner = ownerOf(Process.number.peek(memory, process));
  for (let i = 0; i < pages; i++) {
    const frame = kernel.host.frames.allocate(owner);
    if (frame === 0) {
      Region.pages.poke(memory, region, i);
      freeRegion(kernel, region);
      fail('ENOMEM', 'host RAM is used up');
    }
    runSet(memory, frames, i, frame);
  }
  return region;
}

/** A region in no tree whose frames are still to come. ENOMEM. */
function emptyRegion(kernel: Kernel, pages: number, writable: boolean): Ref<'Region'> {
  const memory = kernel.memory;
  const region = allocated(Region.tryCreate(memory));
  const frames = tryCreateRun(memory, pages);
  if (frames === NULL) Region.free(memory, region);
  Region.frames.poke(memory, region, allocated(frames));
  Region.pages.poke(memory, region, pages);
  Region.writable.poke(memory, region, writable ? 1 : 0);
  return region;
}

function freeRegion(kernel: Kernel, region: Ref<'Region'>): void {
  const memory = kernel.memory;
  const frames = Region.frames.peek(memory, region);
  const pages = Region.pages.peek(memory, region);
  for (let i = 0; i < pages; i++) kernel.host.frames.drop(runGet(memory, frames, i) as Frame);
  freeRun(memory, frames);
  Region.free(memory, region);
}

/** Unmaps the pages of the range; a region that sticks out keeps the rest. EINVAL when nothing is mapped there, ENOMEM. */
export function munmap(kernel: Kernel, process: Ref<'Process'>, start: bigint, lengthBytes: bigint): void {
  const memory = kernel.memory;
  const last = start + lengthBytes - 1n;
  Process.mmapLock.acquireWrite(memory, process);
  try {
    let removed = 0;
    for (;;) {
      const node = Process.regions.first(memory, process, high(start), low(start), high(last), low(last));
      if (node === NULL) break;
      cutRegion(kernel, process, node, start, last);
      removed++;
    }
    if (removed === 0) fail('EINVAL', 'nothing is mapped there');
  } finally {
    Process.mmapLock.releaseWrite(memory, process);
  }
}

/** Replaces a region by what of it lies outside `[start, last]`. ENOMEM, then it is whole. */
function cutRegion(kernel: Kernel, process: Ref<'Process'>, node: IntervalNode, start: bigint, last: bigint): void {
  const memory = kernel.memory;
  const region = Process.regions.value(memory, node) as Ref<'Region'>;
  const regionStart = big(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
  const pages = Region.pages.peek(memory, region);
  const before = start > regionStart ? Number((start - regionStart) >> 12n) : 0;
  const cutEnd = Number(((last - regionStart) >> 12n) + 1n);
  const kept: Ref<'Region'>[] = [];
  try {
    if (before > 0) kept.push(shareFrames(kernel, region, 0, before));
    if (cutEnd < pages) kept.push(shareFrames(kernel, region, cutEnd, pages));
  } catch (error) {
    for (const part of kept) freeRegion(kernel, part);
    throw error;
  }
  insertParts(kernel, process, before > 0 ? [regionStart, regionStart + BigInt(cutEnd * pageBytes)] : [regionStart + BigInt(cutEnd * pageBytes)], kept);
  Process.regions.remove(memory, process, node);
  freeRegion(kernel, region);
}

/** Puts what is left of a region beside it, which is still there. ENOMEM; then none is, and they are freed. */
function insertParts(kernel: Kernel, process: Ref<'Process'>, starts: readonly bigint[], parts: readonly Ref<'Region'>[]): void {
  const inserted: IntervalNode[] = [];
  try {
    for (const [index, part] of parts.entries()) inserted.push(insertRegion(kernel, process, starts[index]!, part));
  } catch (error) {
    for (const [index, node] of inserted.entries()) {
      Process.regions.remove(kernel.memory, process, node);
      freeRegion(kernel, parts[index]!);
    }
    for (const part of parts.slice(inserted.length + 1)) freeRegion(kernel, part);
    throw error;
  }
}

/** A region of the pages `[first, end)` of another, each with a reference of its own. ENOMEM. */
function shareFrames(kernel: Kernel, region: Ref<'Region'>, first: number, end: number): Ref<'Region'> {
  const memory = kernel.memory;
  const part = emptyRegion(kernel, end - first, Region.writable.peek(memory, region) !== 0);
  Region.compound.poke(memory, part, Region.compound.peek(memory, region));
  shareInto(kernel, Region.frames.peek(memory, region), first, part);
  return part;
}

/** Fills a new region with frames of another run, from `first` on. */
function shareInto(kernel: Kernel, from: Ref<'Run'>, first: number, part: Ref<'Region'>): void {
  const memory = kernel.memory;
  const to = Region.frames.peek(memory, part);
  const pages = Region.pages.peek(memory, part);
  for (let i = 0; i < pages; i++) {
    const frame = runGet(memory, from, first + i) as Frame;
    kernel.host.frames.hold(frame);
    runSet(memory, to, i, frame);
  }
}

/** Gives a new process all regions of another, shared (fork(2) of shared mappings). ENOMEM. */
export function shareMemory(kernel: Kernel, from: Ref<'Process'>, to: Ref<'Process'>): void {
  const memory = kernel.memory;
  Process.mmapLock.acquireRead(memory, from);
  Process.mmapLock.acquireWrite(memory, to);
  try {
    let node = Process.regions.first(memory, from, 0, 0, -1, -1);
    for (; node !== NULL; node = Process.regions.next(memory, from, node, 0, 0, -1, -1)) {
      const region = Process.regions.value(memory, node) as Ref<'Region'>;
      const start = big(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
      insertRegion(kernel, to, start, shareFrames(kernel, region, 0, Region.pages.peek(memory, region)));
    }
    Process.mmapTop.pokeBig(memory, to, Process.mmapTop.peekBig(memory, from));
  } finally {
    Process.mmapLock.releaseWrite(memory, to);
    Process.mmapLock.releaseRead(memory, from);
  }
}

/** ENOMEM; the region is freed then. */
function insertRegion(kernel: Kernel, process: Ref<'Process'>, start: bigint, region: Ref<'Region'>): IntervalNode {
  const memory = kernel.memory;
  const last = start + BigInt(Region.pages.peek(memory, region) * pageBytes) - 1n;
  const node = Process.regions.insert(memory, process, high(start), low(start), high(last), low(last), region);
  if (node === NULL) freeRegion(kernel, region);
  return allocated(node);
}

/**
 * Pins `count` pages from the page of `va` on into `frames[at..at + count)`. EFAULT when a page is absent, or `write` meets a
 * read-only region; then nothing stays pinned.
 */
export function pinPages(kernel: Kernel, process: Ref<'Process'>, va: bigint, count: number, write: boolean, frames: Ref<'Run'>, at: number): void {
  const memory = kernel.memory;
  Process.mmapLock.acquireRead(memory, process);
  try {
    for (let i = 0; i < count; i++) {
      const frame = userFrame(kernel, process, va + BigInt(i * pageBytes), write);
      if (frame === 0 || (memory.faults !== null && memory.faults.refuses('a pin'))) {
        for (let undo = 0; undo < i; undo++) kernel.host.frames.unpin(runGet(memory, frames, at + undo) as Frame);
        fail('EFAULT', `page 0x${(va + BigInt(i * pageBytes)).toString(16)} is ${write ? 'absent or read-only' : 'absent'}`);
      }
      kernel.host.frames.pin(frame);
      runSet(memory, frames, at + i, frame);
    }
  } finally {
    Process.mmapLock.releaseRead(memory, process);
  }
  Process.pinnedPages.add(memory, process, count);
}

/** Undoes `pinPages`. */
export function unpinPages(kernel: Kernel, process: Ref<'Process'>, frames: Ref<'Run'>, at: number, count: number): void {
  for (let i = 0; i < count; i++) kernel.host.frames.unpin(runGet(kernel.memory, frames, at + i) as Frame);
  Process.pinnedPages.add(kernel.memory, process, -count);
}

/** The frame behind an address, or 0. The caller holds `mmapLock`. */
function userFrame(kernel: Kernel, process: Ref<'Process'>, va: bigint, write: boolean): Frame {
  const memory = kernel.memory;
  const node = Process.regions.first(memory, process, high(va), low(va), high(va), low(va));
  if (node === NULL) return 0 as Frame;
  const region = Process.regions.value(memory, node) as Ref<'Region'>;
  if (write && Region.writable.peek(memory, region) === 0) return 0 as Frame;
  const start = big(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
  return runGet(memory, Region.frames.peek(memory, region), Number((va - start) >> 12n)) as Frame;
}

/** Where a process's own loads and stores at `va` go (the CPU's page tables); EFAULT when nothing is mapped. */
export function userAddress(kernel: Kernel, process: Ref<'Process'>, va: bigint): Hpa {
  Process.mmapLock.acquireRead(kernel.memory, process);
  const frame = userFrame(kernel, process, va, false);
  Process.mmapLock.releaseRead(kernel.memory, process);
  if (frame === 0) fail('EFAULT', `0x${va.toString(16)} is not mapped`);
  return (hpaOf(frame) + Number(va & 0xfffn)) as Hpa;
}

/** As `userAddress`, for a store; EFAULT also for a read-only page. */
export function userWriteAddress(kernel: Kernel, process: Ref<'Process'>, va: bigint): Hpa {
  Process.mmapLock.acquireRead(kernel.memory, process);
  const frame = userFrame(kernel, process, va, true);
  Process.mmapLock.releaseRead(kernel.memory, process);
  if (frame === 0) fail('EFAULT', `0x${va.toString(16)} cannot be written`);
  return (hpaOf(frame) + Number(va & 0xfffn)) as Hpa;
}

/** Whether the page behind an address is part of a larger one. */
export function isCompound(kernel: Kernel, process: Ref<'Process'>, va: bigint): boolean {
  const memory = kernel.memory;
  Process.mmapLock.acquireRead(memory, process);
  const node = Process.regions.first(memory, process, high(va), low(va), high(va), low(va));
  const compound = node !== NULL && Region.compound.peek(memory, Process.regions.value(memory, node) as Ref<'Region'>) !== 0;
  Process.mmapLock.releaseRead(memory, process);
  return compound;
}
