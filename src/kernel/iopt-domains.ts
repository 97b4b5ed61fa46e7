/**
 * The domains of an IOAS, which all hold the same translations (`iopt_table_add_domain`, `iopt_table_remove_domain`). They do not know
 * the HWPTs around them.
 */
import { NULL, type Ref } from '#hostmem/object';
import { object, ref } from '#hostmem/struct';
import { IommuDomain } from '../drivers/domain.ts';
import { allocated } from './errno.ts';
import { DomainJoined, DomainLeft } from './events.ts';
import { Ioas, ioasId } from './ioas.ts';
import { checkAlignment, pageBytesOf, wantedAlignment } from './iopt-alignment.ts';
import { Area, firstArea, nextArea } from './iopt-area.ts';
import { fillArea } from './iopt-fill.ts';
import { reserve, unreserve } from './iopt-ranges.ts';
import type { Kernel } from './kernel.ts';
import { Pages } from './pages.ts';
import { big, U64_MAX } from './u64.ts';

/** A domain of an IOAS. */
export const IoptDomain = object('IoptDomain', { domain: ref('IommuDomain'), next: ref('IoptDomain') });

/**
 * Makes a domain hold what the IOAS holds (`iopt_table_add_domain`). EADDRINUSE when the domain's aperture or alignment
 * does not fit what is mapped or allowed, EINVAL when its smallest page is larger than 4 KiB, and EFAULT, ENOMEM of the filling;
 * a failure leaves the IOAS as it was.
 */
export function addDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  try {
    const alignment = Math.max(Ioas.alignment.read(memory, ioas), pageBytesOf(kernel, domain));
    checkAlignment(kernel, ioas, alignment);
    const link = allocated(IoptDomain.tryCreate(memory));
    fillNewDomain(kernel, ioas, domain, link);
    Ioas.alignment.write(memory, ioas, alignment);
    appendDomain(kernel, ioas, domain, link);
    DomainJoined.emit(memory, ioasId(kernel, ioas), kernel.processNumber, IommuDomain.root.peek(memory, domain), IommuDomain.format.peek(memory, domain));
  } finally {
    Ioas.iovaRwsem.releaseWrite(memory, ioas);
    Ioas.domainsRwsem.releaseWrite(memory, ioas);
  }
}

/** Reserves what the domain cannot map and fills it; undoes both, and frees the link. */
function fillNewDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>, link: Ref<'IoptDomain'>): void {
  try {
    reserve(kernel, ioas, 0n, apertureFirst(kernel, domain) - 1n, domain);
    reserve(kernel, ioas, apertureLast(kernel, domain) + 1n, U64_MAX, domain);
    fillAllAreas(kernel, ioas, domain);
  } catch (error) {
    unreserve(kernel, ioas, domain);
    IoptDomain.free(kernel.memory, link);
    throw error;
  }
}

/** Domains are filled and emptied in the order in which they came. */
function appendDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>, link: Ref<'IoptDomain'>): void {
  const memory = kernel.memory;
  IoptDomain.domain.poke(memory, link, domain);
  let last: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  if (last === NULL) {
    Ioas.domains.write(memory, ioas, link);
    return;
  }
  for (let next = IoptDomain.next.peek(memory, last); next !== NULL; next = IoptDomain.next.peek(memory, last)) last = next;
  IoptDomain.next.poke(memory, last, link);
}

function fillAllAreas(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let node = firstArea(kernel, ioas);
  try {
    for (; node !== NULL; node = nextArea(kernel, ioas, node)) {
      const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
      if (Area.pages.read(memory, area) === NULL) continue;
      fillUnderMutex(kernel, area, domain);
    }
  } catch (error) {
    for (let undo = firstArea(kernel, ioas); undo !== node; undo = nextArea(kernel, ioas, undo)) {
      const area = Ioas.areas.value(memory, undo) as Ref<'Area'>;
      if (Area.pages.read(memory, area) !== NULL) emptyUnderMutex(kernel, area, domain);
    }
    throw error;
  }
}

function fillUnderMutex(kernel: Kernel, area: Ref<'Area'>, domain: Ref<'IommuDomain'>): void {
  const pages = Area.transit.peek(kernel.memory, area);
  Pages.mutex.acquire(kernel.memory, pages);
  try {
    fillArea(kernel, domain, area);
  } finally {
    Pages.mutex.release(kernel.memory, pages);
  }
}

function emptyUnderMutex(kernel: Kernel, area: Ref<'Area'>, domain: Ref<'IommuDomain'>): void {
  const pages = Area.transit.peek(kernel.memory, area);
  Pages.mutex.acquire(kernel.memory, pages);
  kernel.operations.iopt.emptyArea(kernel, domain, area);
  Pages.mutex.release(kernel.memory, pages);
}

/** Takes a domain out: empties it and gives its reservations back (`iopt_table_remove_domain`). */
export function removeDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  Ioas.domainsRwsem.acquireWrite(memory, ioas);
  Ioas.iovaRwsem.acquireWrite(memory, ioas);
  unlinkDomain(kernel, ioas, domain);
  DomainLeft.emit(memory, ioasId(kernel, ioas), kernel.processNumber, IommuDomain.root.peek(memory, domain));
  for (let node = firstArea(kernel, ioas); node !== NULL; node = nextArea(kernel, ioas, node)) {
    const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
    if (Area.pages.read(memory, area) !== NULL) emptyUnderMutex(kernel, area, domain);
  }
  unreserve(kernel, ioas, domain);
  Ioas.alignment.write(memory, ioas, wantedAlignment(kernel, ioas));
  Ioas.iovaRwsem.releaseWrite(memory, ioas);
  Ioas.domainsRwsem.releaseWrite(memory, ioas);
}

function unlinkDomain(kernel: Kernel, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>): void {
  const memory = kernel.memory;
  let before: Ref<'IoptDomain'> = NULL;
  let at: Ref<'IoptDomain'> = Ioas.domains.read(memory, ioas);
  while (IoptDomain.domain.peek(memory, at) !== domain) {
    before = at;
    at = IoptDomain.next.peek(memory, at);
  }
  const next = IoptDomain.next.peek(memory, at);
  if (before === NULL) Ioas.domains.write(memory, ioas, next);
  else IoptDomain.next.poke(memory, before, next);
  IoptDomain.free(memory, at);
}

const apertureFirst = (kernel: Kernel, domain: Ref<'IommuDomain'>): bigint =>
  big(IommuDomain.apertureFirstHigh.peek(kernel.memory, domain), IommuDomain.apertureFirstLow.peek(kernel.memory, domain));

const apertureLast = (kernel: Kernel, domain: Ref<'IommuDomain'>): bigint =>
  big(IommuDomain.apertureLastHigh.peek(kernel.memory, domain), IommuDomain.apertureLastLow.peek(kernel.memory, domain));
