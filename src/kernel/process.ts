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
import { runGet, runSet } from '#hostmem/run';
import { object, onNewLine, ref, u32, u64 } from '#hostmem/struct';
import { User } from './accounting.ts';
import { allocated, fail } from './errno.ts';
import { PinMissing } from './events.ts';
import { KernelRoot, type Kernel } from './kernel.ts';
import { bytesOf, createRegion, freeRegion, Region, shareRegion } from './region.ts';
import { big, high, highOfPage, low, lowOfPage, pageNumber, pageOf, U64_MAX } from './u64.ts';

export const Process = object('Process', {
  number: u32,
  /** RLIMIT_MEMLOCK. */
  lockLimitPages: u32,
  user: ref('User'),
  /** Its PASID, 0 for none yet, and how many devices it is bound to by it. Under `KernelRoot.pasidLock`. */
  pasid: u32,
  pasidBonds: u32,
  /** Its PASIDs in the design of 2021 that lost, see `variants/ioasid/set.ts`. */
  ioasids: ref('IoasidSet'),
  /** The effective set, a bit each. */
  capabilities: u32,
  /** It has ended: its memory and files are no more. */
  gone: u32.under('mmapLock'),
  /** It was killed; and how many of its threads have ended, of those that may be killed (`actors/mortal`). */
  killed: u32,
  endedThreads: u32,
  next: ref('Process'),
  files: onNewLine(leafIdTable),
  mmapLock: onNewLine(rwsem),
  regions: intervalTree.under('mmapLock'),
  /** Where the next region goes, downwards. */
  mmapTop: u64,
  /** Pages pinned for this process; VmPin is four times that in KiB. */
  pinnedPages: u32,
  /** Of those, what counts as locked by the process (VmLck). */
  lockedPages: u32.under('mmapLock'),
});

const firstMmapTop = 0x7fff_f7ff_6000n;
/** 8 MiB, what Linux gives every process. */
const defaultLockLimitPages = 2048;

/** A new process of a user, without memory or files and with all capabilities. */
export function createProcess(kernel: Kernel, number: number, user: Ref<'User'> = rootUser(kernel)): Ref<'Process'> {
  const memory = kernel.memory;
  const process = Process.create(memory);
  Process.number.poke(memory, process, number);
  Process.mmapTop.pokeBig(memory, process, firstMmapTop);
  Process.lockLimitPages.poke(memory, process, defaultLockLimitPages);
  Process.user.poke(memory, process, user);
  Process.capabilities.poke(memory, process, -1);
  return process;
}

/** Made with the host's first process. */
function rootUser(kernel: Kernel): Ref<'User'> {
  const found = KernelRoot.rootUser.peek(kernel.memory, kernel.root);
  if (found !== NULL) return found;
  const root = User.create(kernel.memory);
  KernelRoot.rootUser.poke(kernel.memory, kernel.root, root);
  return root;
}

/** Who owns the frames of a process (`Frames.ownerOf`). */
export const ownerOf = (processNumber: number): number => Owner.firstProcess + processNumber;

/** Maps `lengthBytes` (a multiple of 4096) of zeroed memory at `at`, or below the last mapping. ENOMEM, EEXIST. */
export function mmap(kernel: Kernel, process: Ref<'Process'>, lengthBytes: number, writable: boolean, at: bigint | null): bigint {
  return place(kernel, process, newMemory(kernel, process, lengthBytes, writable), at);
}

/** The same with MAP_PRIVATE: a child gets copies. */
export function mmapPrivate(kernel: Kernel, process: Ref<'Process'>, lengthBytes: number, writable: boolean, at: bigint | null): bigint {
  const region = newMemory(kernel, process, lengthBytes, writable);
  Region.isPrivate.poke(kernel.memory, region, 1);
  return place(kernel, process, region, at);
}

const newMemory = (kernel: Kernel, process: Ref<'Process'>, lengthBytes: number, writable: boolean): Ref<'Region'> =>
  createRegion(kernel, ownerOf(Process.number.peek(kernel.memory, process)), Math.ceil(lengthBytes / pageBytes), writable);

/** The pages from `va` on are parts of larger ones. */
export function markCompound(kernel: Kernel, process: Ref<'Process'>, va: bigint): void {
  const memory = kernel.memory;
  const node = Process.regions.first(memory, process, high(va), low(va), high(va), low(va));
  Region.compound.poke(memory, Process.regions.value(memory, node) as Ref<'Region'>, 1);
}

/** Puts a region where the caller wants it, or below the last one, and returns where that is. EEXIST, ENOMEM; it is freed then. */
export function place(kernel: Kernel, process: Ref<'Process'>, region: Ref<'Region'>, at: bigint | null): bigint {
  const memory = kernel.memory;
  Process.mmapLock.acquireWrite(memory, process);
  try {
    const start = at ?? Process.mmapTop.peekBig(memory, process) - bytesOf(kernel, region);
    const last = start + bytesOf(kernel, region) - 1n;
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

/** Unmaps the pages of the range; a region that sticks out keeps the rest. EINVAL when nothing is mapped there, ENOMEM. */
export function munmap(kernel: Kernel, process: Ref<'Process'>, start: bigint, lengthBytes: bigint): void {
  const memory = kernel.memory;
  const last = start + lengthBytes - 1n;
  const gone: Ref<'Region'>[] = [];
  Process.mmapLock.acquireWrite(memory, process);
  try {
    cutRegions(kernel, process, start, last, gone);
  } finally {
    Process.mmapLock.releaseWrite(memory, process);
    for (const region of gone) freeRegion(kernel, region);
  }
  if (gone.length === 0) fail('EINVAL', 'nothing is mapped there');
}

/** Unmaps everything of a process that ends: from here on nothing of it can be pinned, and it pays for nothing more. */
export function munmapAll(kernel: Kernel, process: Ref<'Process'>): void {
  const gone: Ref<'Region'>[] = [];
  Process.mmapLock.acquireWrite(kernel.memory, process);
  cutRegions(kernel, process, 0n, U64_MAX, gone);
  Process.gone.write(kernel.memory, process, 1);
  Process.mmapLock.releaseWrite(kernel.memory, process);
  for (const region of gone) freeRegion(kernel, region);
}

/**
 * Takes out what lies in the range; the regions that were met are for the caller to free without the lock, for a file's last close may need
 * it. Under `mmapLock`. ENOMEM.
 */
function cutRegions(kernel: Kernel, process: Ref<'Process'>, start: bigint, last: bigint, gone: Ref<'Region'>[]): void {
  for (;;) {
    const node = Process.regions.first(kernel.memory, process, high(start), low(start), high(last), low(last));
    if (node === NULL) return;
    const region = Process.regions.value(kernel.memory, node) as Ref<'Region'>;
    cutRegion(kernel, process, node, start, last);
    gone.push(region);
  }
}

/** Replaces a region, which the caller frees, by what of it lies outside `[start, last]`. ENOMEM, then it is whole. */
function cutRegion(kernel: Kernel, process: Ref<'Process'>, node: IntervalNode, start: bigint, last: bigint): void {
  const memory = kernel.memory;
  const region = Process.regions.value(memory, node) as Ref<'Region'>;
  const regionStart = big(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
  const pages = Region.pages.peek(memory, region);
  const before = start > regionStart ? Number((start - regionStart) >> 12n) : 0;
  const cutEnd = Number(((last - regionStart) >> 12n) + 1n);
  const kept: Ref<'Region'>[] = [];
  try {
    if (before > 0) kept.push(shareRegion(kernel, region, 0, before));
    if (cutEnd < pages) kept.push(shareRegion(kernel, region, cutEnd, pages));
  } catch (error) {
    for (const part of kept) freeRegion(kernel, part);
    throw error;
  }
  insertParts(kernel, process, before > 0 ? [regionStart, regionStart + BigInt(cutEnd * pageBytes)] : [regionStart + BigInt(cutEnd * pageBytes)], kept);
  Process.regions.remove(memory, process, node);
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

/** ENOMEM; the region is freed then. Under `mmapLock`. */
export function insertRegion(kernel: Kernel, process: Ref<'Process'>, start: bigint, region: Ref<'Region'>): IntervalNode {
  const memory = kernel.memory;
  const last = start + bytesOf(kernel, region) - 1n;
  const node = Process.regions.insert(memory, process, high(start), low(start), high(last), low(last), region);
  if (node === NULL) freeRegion(kernel, region);
  return allocated(node);
}

/**
 * Pins `count` pages from page number `first` on into `frames[at..at + count)`. EFAULT when a page is absent, or `write` meets a
 * read-only region; then nothing stays pinned.
 */
export function pinPages(kernel: Kernel, process: Ref<'Process'>, first: number, count: number, write: boolean, frames: Ref<'Run'>, at: number): void {
  const memory = kernel.memory;
  Process.mmapLock.acquireRead(memory, process);
  try {
    for (let i = 0, pinned = 0; i < count; i += pinned) {
      // Each page is asked for by itself where pins are made to fail.
      const refused = memory.faults !== null && memory.faults.refuses('a pin');
      pinned = refused ? 0 : pinWithinRegion(kernel, process, first + i, memory.faults === null ? count - i : 1, write, frames, at + i);
      if (pinned > 0) continue;
      for (let undo = 0; undo < i; undo++) kernel.host.frames.unpin(runGet(memory, frames, at + undo) as Frame);
      fail('EFAULT', `page number 0x${(first + i).toString(16)} is ${write ? 'absent or read-only' : 'absent'}`);
    }
  } finally {
    Process.mmapLock.releaseRead(memory, process);
  }
}

/** Pins at most `most` pages, as far as the region of page number `page` goes; returns how many. The caller holds `mmapLock`. */
function pinWithinRegion(
  kernel: Kernel, process: Ref<'Process'>, page: number, most: number, write: boolean, frames: Ref<'Run'>, at: number,
): number {
  const memory = kernel.memory;
  const vaHigh = highOfPage(page);
  const vaLow = lowOfPage(page);
  const node = Process.regions.first(memory, process, vaHigh, vaLow, vaHigh, vaLow);
  if (node === NULL) return 0;
  const region = Process.regions.value(memory, node) as Ref<'Region'>;
  if (write && Region.writable.peek(memory, region) === 0) return 0;
  const source = Region.frames.peek(memory, region);
  const first = page - pageNumber(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
  const count = Math.min(most, Region.pages.peek(memory, region) - first);
  for (let i = 0; i < count; i++) {
    const frame = runGet(memory, source, first + i) as Frame;
    kernel.host.frames.pin(frame);
    runSet(memory, frames, at + i, frame);
  }
  return count;
}

/** Undoes `pinPages`, and any other pin of frames in a run. */
export function unpinPages(kernel: Kernel, frames: Ref<'Run'>, at: number, count: number): void {
  let i = 0;
  try {
    for (; i < count; i++) kernel.host.frames.unpin(runGet(kernel.memory, frames, at + i) as Frame);
  } catch (error) {
    PinMissing.emit(kernel.memory, runGet(kernel.memory, frames, at + i));
    throw error;
  }
}

/** The frame behind an address, or 0. The caller holds `mmapLock`. */
function userFrame(kernel: Kernel, process: Ref<'Process'>, va: bigint, write: boolean): Frame {
  const memory = kernel.memory;
  const node = Process.regions.first(memory, process, high(va), low(va), high(va), low(va));
  if (node === NULL) return 0 as Frame;
  const region = Process.regions.value(memory, node) as Ref<'Region'>;
  if (write && Region.writable.peek(memory, region) === 0) return 0 as Frame;
  const first = pageNumber(Process.regions.startHigh(memory, node), Process.regions.startLow(memory, node));
  return runGet(memory, Region.frames.peek(memory, region), pageOf(va) - first) as Frame;
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

/** Whether it has ended. */
export function isGone(kernel: Kernel, process: Ref<'Process'>): boolean {
  Process.mmapLock.acquireRead(kernel.memory, process);
  const gone = Process.gone.read(kernel.memory, process) !== 0;
  Process.mmapLock.releaseRead(kernel.memory, process);
  return gone;
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
