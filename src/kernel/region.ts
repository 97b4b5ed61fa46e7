/**
 * A region: what a stretch of a process's addresses has behind it (`struct vm_area_struct`). Its pages are populated at once, and it has a
 * reference to each. It does not know where it lies.
 */
import { pageBytes, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32 } from '#hostmem/struct';
import { copyFrame } from './bytes.ts';
import { allocated, fail } from './errno.ts';
import { putFile } from './file.ts';
import { holdFile } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { addUser, dropUser } from './objects.ts';

export const Region = object('Region', {
  pages: u32,
  writable: u32,
  /** Its pages are parts of larger ones (hugetlb). */
  compound: u32,
  /** MAP_PRIVATE: a child of fork(2) gets pages of its own. */
  isPrivate: u32,
  frames: ref('Run'),
  /** What the mapping of a file keeps open; null where the frames are all that it needs. */
  file: ref('File'),
  /** The object whose registers it shows: it is in use meanwhile. */
  object: ref('IommufdObject'),
});

/** Zeroed memory of an owner. ENOMEM. */
export function createRegion(kernel: Kernel, owner: number, pages: number, writable: boolean): Ref<'Region'> {
  const memory = kernel.memory;
  const region = emptyRegion(kernel, pages, writable);
  const frames = Region.frames.peek(memory, region);
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

/** A region whose frames are still to come. ENOMEM. */
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

export function freeRegion(kernel: Kernel, region: Ref<'Region'>): void {
  const memory = kernel.memory;
  const frames = Region.frames.peek(memory, region);
  const pages = Region.pages.peek(memory, region);
  for (let i = 0; i < pages; i++) kernel.host.frames.drop(runGet(memory, frames, i) as Frame);
  freeRun(memory, frames);
  const shown = Region.object.peek(memory, region);
  const file = Region.file.peek(memory, region);
  Region.free(memory, region);
  if (shown !== NULL) dropUser(kernel, shown);
  if (file !== NULL) putFile(kernel, file);
}

/** A region over frames of a run, from `first` on, each with a reference more. ENOMEM. */
export function shareRun(kernel: Kernel, run: Ref<'Run'>, first: number, pages: number, writable: boolean): Ref<'Region'> {
  const memory = kernel.memory;
  const region = emptyRegion(kernel, pages, writable);
  const frames = Region.frames.peek(memory, region);
  for (let i = 0; i < pages; i++) {
    const frame = runGet(memory, run, first + i) as Frame;
    kernel.host.frames.hold(frame);
    runSet(memory, frames, i, frame);
  }
  return region;
}

/** A region of the pages `[first, end)` of another, each with a reference of its own. ENOMEM. */
export function shareRegion(kernel: Kernel, region: Ref<'Region'>, first: number, end: number): Ref<'Region'> {
  const memory = kernel.memory;
  const part = shareRun(kernel, Region.frames.peek(memory, region), first, end - first, Region.writable.peek(memory, region) !== 0);
  describeAs(kernel, part, region);
  return part;
}

/** The same with copies of the pages, which belong to `owner`. ENOMEM. */
export function copyRegion(kernel: Kernel, region: Ref<'Region'>, owner: number): Ref<'Region'> {
  const memory = kernel.memory;
  const pages = Region.pages.peek(memory, region);
  const copy = createRegion(kernel, owner, pages, Region.writable.peek(memory, region) !== 0);
  describeAs(kernel, copy, region);
  for (let i = 0; i < pages; i++) {
    const from = runGet(memory, Region.frames.peek(memory, region), i);
    copyFrame(kernel.host.ram, from as Frame, runGet(memory, Region.frames.peek(memory, copy), i) as Frame);
  }
  return copy;
}

/** Gives a new region what another is and holds. */
function describeAs(kernel: Kernel, region: Ref<'Region'>, like: Ref<'Region'>): void {
  const memory = kernel.memory;
  Region.compound.poke(memory, region, Region.compound.peek(memory, like));
  Region.isPrivate.poke(memory, region, Region.isPrivate.peek(memory, like));
  keep(kernel, region, Region.file.peek(memory, like), Region.object.peek(memory, like));
}

/** Lets a region hold a file open and an object in use; either may be null. */
export function keep(kernel: Kernel, region: Ref<'Region'>, file: Ref<'File'>, shown: Ref<'IommufdObject'>): void {
  const memory = kernel.memory;
  if (file !== NULL) holdFile(kernel, file);
  if (shown !== NULL) addUser(kernel, shown);
  Region.file.poke(memory, region, file);
  Region.object.poke(memory, region, shown);
}

export const bytesOf = (kernel: Kernel, region: Ref<'Region'>): bigint => BigInt(Region.pages.peek(kernel.memory, region) * pageBytes);
