import fc from 'fast-check';
import type { Ref } from '#hostmem/object';
import { WalkResult } from '#hostmem/page-walk';
import { Hwpt } from '#src/kernel/hwpt';
import { Ioas } from '#src/kernel/ioas';
import { mapPages } from '#src/kernel/iopt';
import { placePages } from '#src/kernel/iopt-placement';
import { reserve, unreserve } from '#src/kernel/iopt-ranges';
import { File } from '#src/kernel/open-file';
import { Iommufd, IommufdObject, type ObjectRef } from '#src/kernel/objects';
import { createPages } from '#src/kernel/pages';
import { Process, userAddress } from '#src/kernel/process';
import { expect, test } from 'vitest';
import { runWith } from './at-point.ts';
import { page, U64, Vmm } from './vmm.ts';

/** The record behind an IOAS's id. */
function ioasOf(vmm: Vmm, fd: number, id: number): Ref<'Ioas'> {
  const memory = vmm.world.host.kernel;
  const file = Process.files.get(memory, vmm.process.ref, fd - 2) as Ref<'File'>;
  const header = Iommufd.objects.get(memory, File.body.peek(memory, file), id) as ObjectRef;
  return IommufdObject.body.peek(memory, header) as Ref<'Ioas'>;
}

/** A mapping of one page that is not finished. */
function placeAt(vmm: Vmm, ioas: Ref<'Ioas'>, iova: bigint, va: bigint): Ref<'Area'> {
  const { kernel } = vmm.world;
  return placePages(kernel, ioas, createPages(kernel, vmm.process.ref, va, 4096n, true), 0n, 4096n, iova, 7);
}

test('a mapping that is not finished is in the way: MAP FIXED is EEXIST, UNMAP is EBUSY, automatic placement goes round', () => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const id = vmm.ioas(fd);
  const va = vmm.process.memory(page);
  const { kernel } = vmm.world;
  const ioas = ioasOf(vmm, fd, id);
  const area = placeAt(vmm, ioas, 0x1000n, va);
  expect(vmm.map(fd, id, 0x1000, va)).toBe('EEXIST');
  expect(vmm.unmap(fd, id, 0x1000, page)).toBe('EBUSY');
  expect(vmm.unmap(fd, id, 0n, U64)).toBe('EBUSY');
  expect(vmm.place(fd, id, va, page)).toBe(0x2000n);
  expect(mapPages(kernel, ioas, area)).toBe(0x1000n);
  expect(vmm.unmap(fd, id, 0n, U64)).toBe(0x2000n);
});

test('automatic placement steps over reserved ranges and mappings, alone, side by side and overlapping', () => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const id = vmm.ioas(fd);
  const { kernel } = vmm.world;
  const ioas = ioasOf(vmm, fd, id);
  const owner = 1;
  for (const [start, last] of [[0x1000n, 0x1fffn], [0x3000n, 0x5fffn], [0x5000n, 0x6fffn], [0x9000n, 0x907fn]]) reserve(kernel, ioas, start!, last!, owner);
  expect(vmm.map(fd, id, 0x7000, 0x1000n)).toBeNull();
  expect(vmm.place(fd, id, 0x1000n, 2 * page)).toBe(0xa000n);
  expect(vmm.place(fd, id, 0x1000n, page)).toBe(0x2000n);
  expect(vmm.place(fd, id, 0x1000n, page)).toBe(0x8000n);
  // The hole begins at 0x9080: aligned to 0x80 and or-ed with the offset 0x880.
  expect(vmm.place(fd, id, 0x1880n, 0x80)).toBe(0x9880n);
  unreserve(kernel, ioas, owner);
  expect(vmm.ranges(fd, id).ranges).toEqual([[0n, U64]]);
});

test('a mapping that was placed before a domain came is filled into it', () => {
  const vmm = new Vmm();
  const group = vmm.world.group('A');
  const fd = vmm.iommufd();
  const id = vmm.ioas(fd);
  const va = vmm.process.memory(page, 0x42);
  const { kernel } = vmm.world;
  const device = vmm.openVfio(group.vfio[0]!);
  vmm.bindTo(device, fd);
  const area = placeAt(vmm, ioasOf(vmm, fd, id), 0x1000n, va);
  expect(vmm.attach(device, id)).toBe(3);
  expect([vmm.sees('A', 0x1000), vmm.ledger().pinned]).toEqual(['fault 6', 0]);
  mapPages(kernel, ioasOf(vmm, fd, id), area);
  expect([vmm.sees('A', 0x1000), vmm.ledger().pinned]).toEqual([0x42, 1]);
});

test('an UNMAP leaves alone what is mapped meanwhile where it has been already', () => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const id = vmm.ioas(fd);
  const va = vmm.process.memory(page);
  for (const iova of [0x1000, 0x2000]) expect(vmm.map(fd, id, iova, va)).toBeNull();
  const results: unknown[] = [];
  // It takes the IOAS's lock to take the first mapping, to remove it, and then to look for the next.
  runWith(
    vmm.world.host.kernel, 'RMW Ioas.iovaRwsem', 3,
    () => results.push(vmm.map(fd, id, 0x1000, va)),
    () => results.push(vmm.unmap(fd, id, 0x1000, 2 * page)),
  );
  expect(results).toEqual([null, 0x2000n]);
  expect(vmm.unmap(fd, id, 0x1000, page)).toBe(0x1000n);
});

test('what an UNMAP has taken and not yet removed is busy for another, and in the way of a MAP', () => {
  const vmm = new Vmm();
  const fd = vmm.iommufd();
  const id = vmm.ioas(fd);
  const va = vmm.process.memory(page);
  expect(vmm.map(fd, id, 0x1000, va)).toBeNull();
  const results: unknown[] = [];
  runWith(
    vmm.world.host.kernel, 'RMW Ioas.iovaRwsem', 2,
    () => results.push(vmm.unmap(fd, id, 0x1000, page), vmm.map(fd, id, 0x1000, va)),
    () => results.push(vmm.unmap(fd, id, 0n, U64)),
  );
  expect(results).toEqual(['EBUSY', 'EEXIST', 0x1000n]);
});

/** A mapping of the oracle: pages of iova and of memory. */
interface Span {
  readonly at: number;
  readonly pages: number;
  readonly from: number;
  readonly writable: boolean;
}

class Real {
  readonly vmm = new Vmm();
  readonly fd = this.vmm.iommufd();
  readonly id = this.vmm.ioas(this.fd);
  readonly va = this.vmm.process.memory(memoryPages * page);
  readonly device: number;
  readonly hwpts: Ref<'Ioas'>;
  attached = false;

  constructor() {
    this.device = this.vmm.openVfio(this.vmm.world.group('A').vfio[0]!);
    this.vmm.bindTo(this.device, this.fd);
    this.hwpts = ioasOf(this.vmm, this.fd, this.id);
  }

  /** What the domain has at a page: the page of memory and the permissions, or null. */
  at(iovaPage: number): string | null {
    const { kernel, host } = this.vmm.world;
    const domain = Hwpt.domain.peek(host.kernel, Ioas.hwpts.peek(host.kernel, this.hwpts));
    const result = new WalkResult();
    if (kernel.driver.translate(domain, 0, iovaPage * page, result) !== 0) return null;
    return `${this.frames.indexOf(result.frame)}:${result.permissions}`;
  }

  get frames(): number[] {
    const { kernel } = this.vmm.world;
    return Array.from({ length: memoryPages }, (_, i) => userAddress(kernel, this.vmm.process.ref, this.va + BigInt(i * page)) / page);
  }
}

const memoryPages = 24;
const iovaPages = 40;
const span = fc.record({ at: fc.nat(iovaPages - 1), pages: fc.integer({ min: 1, max: 8 }), from: fc.nat(memoryPages - 9), writable: fc.boolean() });

function expectAgreement(model: readonly Span[], real: Real): void {
  const pinned = real.vmm.ledger().pinned;
  expect(pinned).toBe(real.attached ? model.reduce((sum, { pages }) => sum + pages, 0) : 0);
  if (!real.attached) return;
  for (let at = 0; at < iovaPages + 8; at++) {
    const owner = model.find((one) => at >= one.at && at < one.at + one.pages);
    expect(real.at(at)).toBe(owner === undefined ? null : `${owner.from + at - owner.at}:${owner.writable ? 3 : 1}`);
  }
}

interface Model {
  spans: Span[];
}

class MapSpan implements fc.Command<Model, Real> {
  readonly wanted: Span;
  constructor(wanted: Span) {
    this.wanted = wanted;
  }
  check = (): boolean => true;
  run(model: Model, real: Real): void {
    const { at, pages, from, writable } = this.wanted;
    const isFree = model.spans.every((one) => one.at >= at + pages || one.at + one.pages <= at);
    const errno = real.vmm.map(real.fd, real.id, at * page, real.va + BigInt(from * page), pages * page, writable ? 7 : 5);
    expect(errno).toBe(isFree ? null : 'EEXIST');
    if (isFree) model.spans = [...model.spans, this.wanted].sort((a, b) => a.at - b.at);
    expectAgreement(model.spans, real);
  }
  toString = (): string => `map(${JSON.stringify(this.wanted)})`;
}

class UnmapSpan implements fc.Command<Model, Real> {
  readonly wanted: Span;
  constructor(wanted: Span) {
    this.wanted = wanted;
  }
  check = (): boolean => true;
  run(model: Model, real: Real): void {
    const { at, pages } = this.wanted;
    const met = model.spans.filter((one) => one.at < at + pages && one.at + one.pages > at);
    const bad = met.findIndex((one) => one.at < at || one.at + one.pages > at + pages);
    const gone = bad < 0 ? met : met.slice(0, bad);
    const bytes = gone.reduce((sum, one) => sum + one.pages * page, 0);
    const expected = bad >= 0 || met.length === 0 ? 'ENOENT' : BigInt(bytes);
    expect(real.vmm.unmap(real.fd, real.id, at * page, pages * page)).toBe(expected);
    model.spans = model.spans.filter((one) => !gone.includes(one));
    expectAgreement(model.spans, real);
  }
  toString = (): string => `unmap(${this.wanted.at}, ${this.wanted.pages})`;
}

class SwitchDevice implements fc.Command<Model, Real> {
  check = (): boolean => true;
  run(model: Model, real: Real): void {
    const { vmm, device, id } = real;
    if (real.attached) expect(vmm.detach(device)).toBeNull();
    else expect(vmm.attach(device, id)).toBeTypeOf('number');
    real.attached = !real.attached;
    expectAgreement(model.spans, real);
  }
  toString = (): string => 'attach or detach';
}

test('an IOAS is a map of pages: whatever is mapped, unmapped, attached and detached, the domain holds just that', () => {
  const commands = [span.map((one) => new MapSpan(one)), span.map((one) => new UnmapSpan(one)), fc.constant(new SwitchDevice())];
  fc.assert(
    fc.property(fc.commands(commands, { maxCommands: 40 }), (sequence) => {
      const real = new Real();
      fc.modelRun(() => ({ model: { spans: [] }, real }), sequence);
      real.vmm.close(real.device);
      real.vmm.unmap(real.fd, real.id, 0n, U64);
      expect(real.vmm.ledger().pinned).toBe(0);
    }),
    { numRuns: 60 },
  );
});
