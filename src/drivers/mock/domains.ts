/**
 * Paging domains of the mock (`mock_domain_alloc_pgtable`): tables of 2 KiB pages in RAM, of one of two types, and which of their leaves a device wrote.
 */
import { silent } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { pageBytes, pageShift, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { dma, DmaFlags } from '../../hardware/events.ts';
import { DIRTY, doubledHigh, doubledLow, HALF, HALF_BIT, minorPageBits, mockFormat } from '../../hardware/mock/format.ts';
import { allocated, fail } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import { DomainFlags, formatId, type DirtyRanges, type MapError } from '../driver.ts';

/** `pagetable_type` of the user's data. */
export const TableType = { DEFAULT: 0, HUGE: 1 } as const;
/** `IommuDomain.dirtyTracking`. */
const TrackingState = { POSSIBLE: 1, ENABLED: 2 } as const;
/** What the default table lets a user map; the huge one has all of its 56 bits. */
const firstIova = 0x1000000;
const lastIova = 0x7fffffff;
const widestHigh = 0xffffff;
/** Sizes of leaves: every power of two from 2 KiB to 64 GiB; or 4 KiB and 1 MiB. */
const defaultSizes = 0x1ffffff800n;
const hugeSizes = 0x101000n;
const hugePage = 0x100000n;
const minorPage = 1 << minorPageBits;
const PAGE = BigInt(pageBytes);

export class MockDomains {
  readonly #host: Host;
  readonly #table: PageTable;
  readonly #found = new WalkResult();

  constructor(host: Host) {
    this.#host = host;
    this.#table = new PageTable(host.ram, host.frames, mockFormat);
  }

  /** ENOMEM. */
  create(flags: number, tableType: number): Ref<'IommuDomain'> {
    const memory = this.#host.kernel;
    const root = this.#table.create();
    if (root === 0) fail('ENOMEM', 'no frame for a page table');
    const domain = IommuDomain.tryCreate(memory);
    if (domain === NULL) this.#host.frames.drop(root);
    IommuDomain.kind.poke(memory, allocated(domain), DomainKind.PAGING);
    IommuDomain.driver.poke(memory, domain, DriverKind.MOCK);
    IommuDomain.format.poke(memory, domain, formatId(mockFormat));
    IommuDomain.levels.poke(memory, domain, mockFormat.levels);
    IommuDomain.root.poke(memory, domain, root);
    IommuDomain.largestLeaf.poke(memory, domain, 1);
    IommuDomain.dirtyTracking.poke(memory, domain, (flags & DomainFlags.DIRTY_TRACKING) === 0 ? 0 : TrackingState.POSSIBLE);
    const huge = tableType === TableType.HUGE;
    IommuDomain.smallestPageBits.poke(memory, domain, huge ? pageShift : minorPageBits);
    IommuDomain.pageSizes.pokeBig(memory, domain, huge ? hugeSizes : defaultSizes);
    IommuDomain.apertureFirstLow.poke(memory, domain, huge ? 0 : firstIova);
    IommuDomain.apertureLastHigh.poke(memory, domain, huge ? widestHigh : 0);
    IommuDomain.apertureLastLow.poke(memory, domain, huge ? -1 : lastIova);
    return domain;
  }

  free(domain: Ref<'IommuDomain'>): void {
    this.#table.destroy(IommuDomain.root.peek(this.#host.kernel, domain));
    IommuDomain.free(this.#host.kernel, domain);
  }

  /** Leaves of 2 KiB, and of 4 KiB where both ends are aligned to that; those that were made go again on an error. */
  mapBytes(domain: Ref<'IommuDomain'>, iova: bigint, hpa: number, bytes: number, permissions: number): 0 | MapError {
    if (iova % BigInt(minorPage) !== 0n || hpa % minorPage !== 0 || bytes % minorPage !== 0) return 'EINVAL';
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    for (let done = 0; done < bytes; done += minorPage) {
      const seen = doubled(iova + BigInt(done));
      const half = isHalf(iova, hpa, bytes, done) ? HALF : 0;
      const error = this.#table.mapPage(root, high(seen), low(seen), ((hpa + done) / minorPage) as Frame, permissions | half);
      if (error === 0) continue;
      if (done > 0) this.clear(domain, iova, BigInt(done));
      return error;
    }
    return 0;
  }

  /** Returns how many pages of the unit were mapped. */
  clear(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint): number {
    const seen = doubled(iova);
    return this.#table.unmap(IommuDomain.root.peek(this.#host.kernel, domain), high(seen), low(seen), Number(bytes) / minorPage);
  }

  translate(domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, result: WalkResult): number {
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    const fault = this.#table.translate(root, doubledHigh(iovaHigh, iovaLow), doubledLow(iovaLow), result);
    result.frame = (result.frame >>> 1) as Frame;
    return fault;
  }

  iovaToPhys(domain: Ref<'IommuDomain'>, iova: bigint): number {
    return this.#find(domain, iova) ? this.#found.frame * minorPage + Number(iova % BigInt(minorPage)) : -1;
  }

  /** Whether there is a leaf; it is in `#found` then. */
  #find(domain: Ref<'IommuDomain'>, iova: bigint): boolean {
    const seen = doubled(iova);
    return this.#table.translate(IommuDomain.root.peek(this.#host.kernel, domain), high(seen), low(seen), this.#found) === WalkFault.NONE;
  }

  /** False where the domain cannot. What is dirty when tracking begins was written before (`mock_domain_set_dirty_tracking`). */
  setTracking(domain: Ref<'IommuDomain'>, enabled: boolean): boolean {
    if (IommuDomain.dirtyTracking.peek(this.#host.kernel, domain) === 0) return false;
    IommuDomain.dirtyTracking.poke(this.#host.kernel, domain, enabled ? TrackingState.ENABLED : TrackingState.POSSIBLE);
    return true;
  }

  /**
   * A leaf of 4 KiB is two entries of 2 KiB, and 7.2 reports one less of them than there are (`record_dirty` of generic_pt: the index of the
   * last entry counts as their number), so that only a query by 2 KiB sees a difference.
   */
  takeDirty(domain: Ref<'IommuDomain'>, iova: bigint, bytes: bigint, clear: boolean, found: DirtyRanges): void {
    const end = iova + bytes;
    for (let at = iova; at < end; ) {
      const isLeaf = this.#find(domain, at);
      const halved = isLeaf && (this.#found.entryLow & HALF_BIT) !== 0 && !this.#isHuge(domain);
      const first = halved ? at - (at % PAGE) : at;
      const next = first + (halved ? PAGE : BigInt(minorPage));
      if (isLeaf && this.#takeDirt(domain, first, next, clear)) addRange(found, at, halved && next <= end ? next - BigInt(minorPage) : next < end ? next : end);
      at = next;
    }
  }

  /** Whether a leaf, which is the entries of `[first, end)`, was written. */
  #takeDirt(domain: Ref<'IommuDomain'>, first: bigint, end: bigint, clear: boolean): boolean {
    let dirty = false;
    for (let at = first; at < end; at += BigInt(minorPage)) {
      if (!this.#find(domain, at) || (this.#found.entryLow & DIRTY) === 0) continue;
      dirty = true;
      if (clear) this.#changeFound(~DIRTY, 0);
    }
    return dirty;
  }

  #isHuge(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.smallestPageBits.peek(this.#host.kernel, domain) === pageShift;
  }

  tracksWrites(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.dirtyTracking.peek(this.#host.kernel, domain) === TrackingState.ENABLED;
  }

  /** What a device's write does to the leaf at an IOVA (`pt_set_dirty`), which in the huge table is one of 1 MiB. */
  markWritten(domain: Ref<'IommuDomain'>, iova: bigint): void {
    const huge = this.#isHuge(domain);
    const first = huge ? iova - (iova % hugePage) : iova;
    const begin = this.#host.kernel.history?.stamp() ?? 0;
    const frame = this.#find(domain, iova) ? ((this.#found.frame >>> 1) as Frame) : (0 as Frame);
    const owner = frame === 0 ? 0 : this.#host.frames.ownerOf(frame);
    let reached = false;
    for (let at = first; at === iova || (huge && at < first + hugePage); at += BigInt(minorPage)) {
      const marked = this.#find(domain, at) && this.#changeFound(-1, DIRTY);
      if (at === iova) reached = marked;
    }
    if (reached) this.#tellWrite(domain, iova, frame, owner, begin);
  }

  /** Keeps and sets bits of the leaf found last, as one step; false when it is gone by now. */
  #changeFound(keep: number, set: number): boolean {
    const { entryAt, entryLow } = this.#found;
    for (let seen = entryLow; (seen & 1) !== 0; ) {
      const before = silent.compareExchange(this.#host.ram, entryAt, seen, (seen & keep) | set);
      if (before === seen) return true;
      seen = before;
    }
    return false;
  }

  /** The write as any device's, of a function without a requester id. */
  #tellWrite(domain: Ref<'IommuDomain'>, iova: bigint, frame: Frame, owner: number, begin: number): void {
    const { kernel } = this.#host;
    const where = (low(iova) & ~(2 ** pageShift - 1)) | (owner & DmaFlags.ownerMask);
    dma.emit(kernel, DmaFlags.WRITE, high(iova), where, frame, IommuDomain.root.peek(kernel, domain), begin);
  }
}

/** Whether the entry for byte `done` of a mapping is a half of a leaf of 4 KiB. */
function isHalf(iova: bigint, hpa: number, bytes: number, done: number): boolean {
  const offset = Number((iova + BigInt(done)) % PAGE);
  return (hpa + done) % pageBytes === offset && done >= offset && bytes - done + offset >= pageBytes;
}

function addRange(found: DirtyRanges, start: bigint, end: bigint): void {
  if (start >= end) return;
  found.iovas.push(start);
  found.lengths.push(end - start);
}

const high = (value: bigint): number => Number(BigInt.asIntN(32, value >> 32n));
const low = (value: bigint): number => Number(BigInt.asIntN(32, value));

/** An IOVA as the walker sees it (`format.ts`). */
const doubled = (iova: bigint): bigint => iova << 1n;
