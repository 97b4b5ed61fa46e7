/**
 * A dma-buf as VFIO and the selftest export it: one physical range of registers, which others import into an IOAS until its exporter revokes
 * it, for a reset of the device or because its memory is switched off (`iopt_revoke_notify`, pages.c).
 *
 * Who imported it before a revocation stays without it for good: a new import is needed. Locks, outer first: `lock` (`dma_resv`), the pages'
 * mutex; the mappings of imported pages are listed under the latter alone, so that a revocation takes no lock of an IOAS.
 */
import { mutex } from '#hostmem/locks';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { allocated, fail } from './errno.ts';
import { clearArea } from './iopt-fill.ts';
import type { Kernel } from './kernel.ts';
import { Pages } from './pages.ts';
import { forgetDmabuf } from './vfio-dmabuf.ts';

export const Dmabuf = object('Dmabuf', {
  firstFrame: u32,
  /** Its size. */
  pages: u32,
  /** Physical ranges that it consists of; an IOAS takes it only as one. */
  ranges: u32,
  /** Whose registers they are; null for pages that are the dma-buf's own. */
  device: ref('VfioDevice'),
  nextOfDevice: ref('Dmabuf'),
  lock: mutex,
  revoked: u32.under('lock'),
  importers: ref('Pages').under('lock'),
});

/** An area of a domain that imported pages are in, or were before they were revoked. */
export const DmabufMapping = object('DmabufMapping', { area: ref('Area'), domain: ref('IommuDomain'), next: ref('DmabufMapping') });

/** A dma-buf that nobody has yet. Without a device, the caller's reference to each frame becomes its own. ENOMEM. */
export function createDmabuf(kernel: Kernel, firstFrame: Frame, pages: number, ranges: number, device: Ref<'VfioDevice'>): Ref<'Dmabuf'> {
  const memory = kernel.memory;
  const dmabuf = allocated(Dmabuf.tryCreate(memory));
  Dmabuf.firstFrame.poke(memory, dmabuf, firstFrame);
  Dmabuf.pages.poke(memory, dmabuf, pages);
  Dmabuf.ranges.poke(memory, dmabuf, ranges);
  Dmabuf.device.poke(memory, dmabuf, device);
  return dmabuf;
}

/** The last close: nobody imports it any more. */
export function releaseDmabuf(kernel: Kernel, dmabuf: Ref<'Dmabuf'>): void {
  const memory = kernel.memory;
  const device = Dmabuf.device.peek(memory, dmabuf);
  if (device !== NULL) forgetDmabuf(kernel, device, dmabuf);
  else {
    const first = Dmabuf.firstFrame.peek(memory, dmabuf);
    for (let page = 0; page < Dmabuf.pages.peek(memory, dmabuf); page++) kernel.host.frames.drop((first + page) as Frame);
  }
  Dmabuf.free(memory, dmabuf);
}

/** Ties pages to a dma-buf (`iopt_map_dmabuf`). ENODEV while it is revoked, EOPNOTSUPP for one of several ranges. */
export function joinDmabuf(kernel: Kernel, dmabuf: Ref<'Dmabuf'>, pages: Ref<'Pages'>): void {
  const memory = kernel.memory;
  Dmabuf.lock.acquire(memory, dmabuf);
  try {
    if (Dmabuf.revoked.read(memory, dmabuf) !== 0) fail('ENODEV', 'the dma-buf is revoked');
    if (Dmabuf.ranges.peek(memory, dmabuf) !== 1) fail('EOPNOTSUPP', 'the dma-buf has several physical ranges');
    Pages.nextImporter.poke(memory, pages, Dmabuf.importers.read(memory, dmabuf));
    Dmabuf.importers.write(memory, dmabuf, pages);
  } finally {
    Dmabuf.lock.release(memory, dmabuf);
  }
}

export function leaveDmabuf(kernel: Kernel, dmabuf: Ref<'Dmabuf'>, pages: Ref<'Pages'>): void {
  const memory = kernel.memory;
  Dmabuf.lock.acquire(memory, dmabuf);
  const next = Pages.nextImporter.peek(memory, pages);
  let at = Dmabuf.importers.read(memory, dmabuf);
  if (at === pages) Dmabuf.importers.write(memory, dmabuf, next);
  else {
    while (Pages.nextImporter.peek(memory, at) !== pages) at = Pages.nextImporter.peek(memory, at);
    Pages.nextImporter.poke(memory, at, next);
  }
  Dmabuf.lock.release(memory, dmabuf);
}

/**
 * Takes it away from all importers, and lets it be imported again or not. Both are told in the same way: who imported it before has to
 * import it once more.
 */
export function moveDmabuf(kernel: Kernel, dmabuf: Ref<'Dmabuf'>, revoked: boolean): void {
  const memory = kernel.memory;
  Dmabuf.lock.acquire(memory, dmabuf);
  Dmabuf.revoked.write(memory, dmabuf, revoked ? 1 : 0);
  let pages: Ref<'Pages'> = Dmabuf.importers.read(memory, dmabuf);
  for (; pages !== NULL; pages = Pages.nextImporter.peek(memory, pages)) revokePages(kernel, pages);
  Dmabuf.lock.release(memory, dmabuf);
}

/** Removes their translations from every domain; the areas stay. */
function revokePages(kernel: Kernel, pages: Ref<'Pages'>): void {
  const memory = kernel.memory;
  Pages.mutex.acquire(memory, pages);
  if (Pages.revoked.read(memory, pages) === 0) {
    let at: Ref<'DmabufMapping'> = Pages.mappings.read(memory, pages);
    for (; at !== NULL; at = DmabufMapping.next.peek(memory, at)) {
      clearArea(kernel, DmabufMapping.domain.peek(memory, at), DmabufMapping.area.peek(memory, at));
    }
    Pages.revoked.write(memory, pages, 1);
  }
  Pages.mutex.release(memory, pages);
}

/** Notes that an area is in a domain; returns whether it is to be filled, which revoked pages are not. Under the pages' mutex. ENOMEM. */
export function addDmabufMapping(kernel: Kernel, pages: Ref<'Pages'>, area: Ref<'Area'>, domain: Ref<'IommuDomain'>): boolean {
  const memory = kernel.memory;
  const added = allocated(DmabufMapping.tryCreate(memory));
  DmabufMapping.area.poke(memory, added, area);
  DmabufMapping.domain.poke(memory, added, domain);
  DmabufMapping.next.poke(memory, added, Pages.mappings.read(memory, pages));
  Pages.mappings.write(memory, pages, added);
  return Pages.revoked.read(memory, pages) === 0;
}

/** Undoes `addDmabufMapping`; returns whether the area is still filled. Under the pages' mutex. */
export function dropDmabufMapping(kernel: Kernel, pages: Ref<'Pages'>, area: Ref<'Area'>, domain: Ref<'IommuDomain'>): boolean {
  const memory = kernel.memory;
  let before: Ref<'DmabufMapping'> = NULL;
  let at: Ref<'DmabufMapping'> = Pages.mappings.read(memory, pages);
  while (DmabufMapping.area.peek(memory, at) !== area || DmabufMapping.domain.peek(memory, at) !== domain) {
    before = at;
    at = DmabufMapping.next.peek(memory, at);
  }
  const next = DmabufMapping.next.peek(memory, at);
  if (before === NULL) Pages.mappings.write(memory, pages, next);
  else DmabufMapping.next.poke(memory, before, next);
  DmabufMapping.free(memory, at);
  return Pages.revoked.read(memory, pages) === 0;
}
