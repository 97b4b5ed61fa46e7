/**
 * IOMMU_IOAS_CHANGE_PROCESS (`iommufd_ioas_change_process`): the caller pays for what the context has pinned from now on. Only pages
 * of a file can change hands, for an address means nothing in another process; without any mapping there is nothing to do.
 */
import { NULL, type Ref } from '#hostmem/object';
import { charge, Payer, uncharge } from './accounting.ts';
import { fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { Area, firstArea, nextArea } from './iopt-area.ts';
import type { Kernel } from './kernel.ts';
import { Iommufd, IommufdObject, Kind, lockObject, type ObjectRef } from './objects.ts';
import { Source } from './page-source.ts';
import { Pages } from './pages.ts';

export interface IoasChangeProcess { reserved?: number }

/** EOPNOTSUPP, EINVAL for memory that is no file's, EBUSY for a mapping that is not finished, ENOMEM over the caller's limit: then nothing changes. */
export function ioasChangeProcess(kernel: Kernel, iommufd: Ref<'Iommufd'>, { reserved = 0 }: IoasChangeProcess): void {
  if (reserved !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  const taken: Ref<'Ioas'>[] = [];
  try {
    for (const ioas of holdEveryIoas(kernel, iommufd)) {
      Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
      taken.push(ioas);
    }
    changeOwner(kernel, pagesOf(kernel, taken));
  } finally {
    for (const ioas of taken) Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

/** In the order of their ids, held for the rest of the call. */
function holdEveryIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>): Ref<'Ioas'>[] {
  const memory = kernel.memory;
  const found: Ref<'Ioas'>[] = [];
  Iommufd.objects.acquire(memory, iommufd);
  for (let id = Iommufd.objects.nextLocked(memory, iommufd, 0); id !== 0; id = Iommufd.objects.nextLocked(memory, iommufd, id)) {
    const header = Iommufd.objects.getLocked(memory, iommufd, id) as ObjectRef;
    if (IommufdObject.kind.peek(memory, header) !== Kind.IOAS || !lockObject(kernel, header)) continue;
    kernel.hold(header);
    found.push(IommufdObject.body.peek(memory, header) as Ref<'Ioas'>);
  }
  Iommufd.objects.release(memory, iommufd);
  return found;
}

/**
 * What the IOASes map, each once, however many areas do. While `iovaRwsem` is held and no area is unfinished, nobody pins or unpins. The first
 * mapping that is in the way decides. EBUSY, EINVAL.
 */
function pagesOf(kernel: Kernel, ioases: readonly Ref<'Ioas'>[]): Set<Ref<'Pages'>> {
  const memory = kernel.memory;
  const found = new Set<Ref<'Pages'>>();
  for (const ioas of ioases) {
    for (let node = firstArea(kernel, ioas); node !== NULL; node = nextArea(kernel, ioas, node)) {
      const pages = Area.pages.read(memory, Ioas.areas.value(memory, node) as Ref<'Area'>);
      if (pages === NULL) fail('EBUSY', 'a mapping is not finished');
      if (Pages.source.peek(memory, pages) !== Source.FILE) fail('EINVAL', 'memory of a process, or a dma-buf, is mapped');
      found.add(pages);
    }
  }
  return found;
}

/** Charges the caller for all before anybody else is relieved. ENOMEM. */
function changeOwner(kernel: Kernel, all: Set<Ref<'Pages'>>): void {
  const memory = kernel.memory;
  const moving = [...all].filter((pages) => Pages.payer.peek(memory, pages) !== Payer.NOBODY && Pages.process.peek(memory, pages) !== kernel.process);
  chargeCaller(kernel, moving);
  for (const pages of moving) uncharge(kernel, Pages.process.peek(memory, pages), Pages.payer.peek(memory, pages), Pages.pinned.peek(memory, pages));
  for (const pages of all) Pages.process.poke(memory, pages, kernel.process);
}

/** The sum for each kind of payer at once, or nothing. */
function chargeCaller(kernel: Kernel, moving: readonly Ref<'Pages'>[]): void {
  const pinned = (payer: Payer): number =>
    moving.reduce((sum, pages) => sum + (Pages.payer.peek(kernel.memory, pages) === payer ? Pages.pinned.peek(kernel.memory, pages) : 0), 0);
  const ofUser = pinned(Payer.USER);
  const ofProcess = pinned(Payer.PROCESS);
  if (ofUser > 0) charge(kernel, kernel.process, Payer.USER, ofUser);
  if (ofProcess === 0) return;
  try {
    charge(kernel, kernel.process, Payer.PROCESS, ofProcess);
  } catch (error) {
    if (ofUser > 0) uncharge(kernel, kernel.process, Payer.USER, ofUser);
    throw error;
  }
}
