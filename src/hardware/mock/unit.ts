/**
 * The mock IOMMU as hardware, which the kernel's selftest does without: a register of each function holds the root of its tables, every request walks
 * them, and nothing is cached. So nothing has to be invalidated; software that has changed a table or a register waits until what was in flight has ended.
 *
 * A request is for a page of 4 KiB: one whose two halves are not those of a frame faults.
 */
import { Op, sleepWhile, Until } from '#hostmem/atomics';
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import type { Frame, Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PageWalker, WalkFault, WalkResult } from '#hostmem/page-walk';
import { tellDeadTable } from '../dead-table.ts';
import { InFlight, PciFunction } from '../function.ts';
import { IotlbView } from '../iotlb.ts';
import type { Translator } from '../translator.ts';
import { IommuUnit } from '../unit.ts';
import { doubledHigh, doubledLow, isBeyond, mockFormat } from './format.ts';

/** Why a request was refused. */
export const MockFault = { NONE: 0, BLOCKED: 1, NOT_MAPPED: 2, DENIED: 3, SPLIT_PAGE: 4 } as const;
export type MockFault = (typeof MockFault)[keyof typeof MockFault];

/** How long a free run's waiter lets a device be that may have been descheduled. */
const momentMs = 0.05;

export class MockUnit implements Translator {
  frame = 0 as Frame;
  root = 0 as Frame;
  readonly hit = false;
  /** Switched off. */
  readonly iotlb: IotlbView;
  readonly #kernel: Memory;
  readonly #frames: Frames;
  readonly #unit: Ref<'IommuUnit'>;
  readonly #tables: PageWalker;
  readonly #walk = new WalkResult();

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    this.#kernel = host.kernel;
    this.#frames = host.frames;
    this.#unit = unit;
    this.#tables = new PageWalker(host.ram, mockFormat);
    this.iotlb = new IotlbView(host.kernel, IommuUnit.iotlb.peek(host.kernel, unit));
  }

  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number): MockFault {
    const pciFunction = mockFunction(this.#kernel, this.#unit, sourceId);
    this.root = PciFunction.mockRoot.load(this.#kernel, pciFunction) as Frame;
    if (this.root === 0) return MockFault.BLOCKED;
    const first = this.#half(sourceId, iovaHigh, iovaLow & ~4095, access);
    if (first < 0) return -first as MockFault;
    const second = this.#half(sourceId, iovaHigh, (iovaLow & ~4095) | 2048, access);
    if (second < 0) return -second as MockFault;
    if (first % 2 !== 0 || second !== first + 1) return MockFault.SPLIT_PAGE;
    this.frame = (first / 2) as Frame;
    return MockFault.NONE;
  }

  /** The half of a frame behind a half of a page; or the fault, negative. */
  #half(sourceId: number, iovaHigh: number, iovaLow: number, access: number): number {
    if (isBeyond(iovaHigh)) return -MockFault.NOT_MAPPED;
    const walk = this.#walk;
    const fault = this.#tables.walk(this.root, doubledHigh(iovaHigh, iovaLow), doubledLow(iovaLow), access, walk);
    if (this.#kernel.history !== null) tellDeadTable(this.#kernel, this.#frames, sourceId, walk);
    if (fault === WalkFault.NONE) return walk.frame;
    return fault === WalkFault.READ_DENIED || fault === WalkFault.WRITE_DENIED ? -MockFault.DENIED : -MockFault.NOT_MAPPED;
  }
}

/** The function with that requester id. */
export function mockFunction(kernel: Memory, unit: Ref<'IommuUnit'>, sourceId: number): Ref<'PciFunction'> {
  let at: Ref<'PciFunction'> = IommuUnit.firstFunction.peek(kernel, unit);
  while (at !== NULL && PciFunction.sourceId.peek(kernel, at) !== sourceId) at = PciFunction.nextOfUnit.peek(kernel, at);
  return at;
}

/** What the unit has of a fence: software stalls here until the transactions that a function had in flight have ended. */
export function fence(kernel: Memory, pciFunction: Ref<'PciFunction'>): void {
  const seen = PciFunction.inFlight.load(kernel, pciFunction);
  if ((seen & InFlight.BUSY) === 0) return;
  const at = PciFunction.inFlight.address(kernel, pciFunction);
  if (kernel.control !== null) {
    kernel.control.pointWhen(Op.WAIT, kernel, at, PciFunction.inFlight.label, -1, Until.DIFFERENT, seen);
    return;
  }
  while (PciFunction.inFlight.load(kernel, pciFunction) === seen) sleepWhile(kernel, at, seen, momentMs);
}

/** The same for every function behind a unit and those that follow it in the machine. */
export function fenceAll(kernel: Memory, firstUnit: Ref<'IommuUnit'>): void {
  for (let unit = firstUnit; unit !== NULL; unit = IommuUnit.next.peek(kernel, unit))
    for (let at = IommuUnit.firstFunction.peek(kernel, unit); at !== NULL; at = PciFunction.nextOfUnit.peek(kernel, at)) fence(kernel, at);
}
