/** Units of AMD and SMMUv3 by the bits of their tables and commands. */
import { peek, poke } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import * as amdCommands from '#src/hardware/amd/commands';
import * as deviceTable from '#src/hardware/amd/device-table';
import { AmdEvent, takeRecords } from '#src/hardware/amd/event-log';
import { AmdRegisters } from '#src/hardware/amd/registers';
import { UnitCommandRing } from '#src/hardware/command-engine';
import { installedRoot } from '#src/hardware/installed-root';
import { Machine } from '#src/hardware/machine';
import * as smmuCommands from '#src/hardware/smmuv3/commands';
import { descriptorOf } from '#src/hardware/smmuv3/context-descriptor';
import { EventClass, SmmuEvent, takeSmmuRecords } from '#src/hardware/smmuv3/events';
import { SmmuRegisters } from '#src/hardware/smmuv3/registers';
import * as stream from '#src/hardware/smmuv3/stream-table';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { smallVendor } from '../drivers/small-vendor.ts';

const READ_WRITE = 3;

test('anchors W5: the first word of stream-table entries', () => {
  expect(stream.stage1Entry(0 as Frame)[0]).toBe(0xb);
  expect(stream.stage2Entry(1, 0 as Frame)[0]).toBe(0xd);
  expect(stream.nestedEntry(0xb, 0, 1, 0 as Frame)[0]).toBe(0xf);
  expect([stream.bypassEntry[0], stream.abortEntry[0]]).toEqual([0x9, 0x1]);
  expect(stream.levelsOf(stream.stage2Control)).toBe(4);
});

test('a descriptor has its ASID in [63:48] and its table in the second quadword', () => {
  const [, upper, table] = descriptorOf(0x1234, 0x77 as Frame);
  expect([upper >>> 16, table]).toEqual([0x1234, 0x77000]);
});

test('a device-table entry has V, TV, the mode and the root in its first word, IR and IW above', () => {
  expect(deviceTable.entryLow(0x1234 as Frame, 4)).toBe(0x1234803);
  expect(deviceTable.allPermissions >>> 0).toBe(0x6000_0000);
  expect(deviceTable.rootOf(deviceTable.allPermissions, 0x1234803)).toBe(0x1234);
});

test('a range of INVALIDATE_IOMMU_PAGES is told by the lowest 0 of its address, and holds what it was made for', () => {
  expect(amdCommands.invalidatePages(7, 0, 0x5000, 0)).toEqual([0, 0x3000_0007, 0x5002, 0]);
  // 64 KiB at 0x40000: bits 12 to 14 are 1, bit 15 is the lowest 0.
  expect(amdCommands.invalidatePages(7, 0, 0x45000, 4)).toEqual([0, 0x3000_0007, 0x47003, 0]);
  fc.assert(fc.property(fc.integer({ min: 0, max: 50 }), fc.integer({ min: 0, max: 0x7fff_ffff }), fc.integer({ min: 0, max: 0xffff }), (order, low, high) => {
    const [, , third, fourth] = amdCommands.invalidatePages(1, high, low, order);
    expect(amdCommands.orderOf(third, fourth)).toBe(order);
  }));
  const [, , third, fourth] = amdCommands.invalidatePages(1, 0, 0, 52);
  expect(amdCommands.orderOf(third, fourth)).toBeGreaterThanOrEqual(51);
});

test.each(['amd', 'smmuv3'] as const)('%s: before software has given it tables, the unit lets everything pass', (vendor) => {
  const host = Host.create(1 << 20, 1 << 20);
  Machine.create(host);
  const unit = vendor === 'amd' ? Machine.addAmdUnit(host) : Machine.addSmmuUnit(host);
  const added = Machine.addFunction(host, unit, { rid: 8 });
  expect(new Machine(host).dma(added).read(0, 0x8000, 4)).toBe(0);
});

test('amd: a requester whose entry is not valid passes untranslated', () => {
  const { host, amd, engines, queue } = smallVendor('amd');
  expect(engines[1]!.read(0, 0x8000, 4)).toBe(AmdEvent.IO_PAGE_FAULT);
  poke(host.ram, deviceTable.entryAt(AmdRegisters.deviceTable.peek(host.kernel, amd) as Frame, 0x108), 0);
  expect(queue.ready()).toBe(false);
  expect(engines[0]!.read(0, 0x8000, 4)).toBe(0);
});

test('amd: what is refused is in the event log, with the requester, the domain and the address', () => {
  const { host, amd, driver, functions, engines } = smallVendor('amd');
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 1);
  driver.attach(domain, functions[0]!);
  expect([engines[0]!.write(0, 0x1004, 4), engines[0]!.read(1, 0x2000, 4)]).toEqual([AmdEvent.IO_PAGE_FAULT, AmdEvent.IO_PAGE_FAULT]);
  expect(takeRecords(host, amd)).toMatchObject([
    { code: 2, sourceId: 0x108, domainId: 1, write: true, present: true, addressLow: 0x1004 },
    { code: 2, sourceId: 0x108, domainId: 1, write: false, present: false, addressHigh: 1, addressLow: 0x2000 },
  ]);
  for (let i = 0; i < 300; i++) engines[0]!.read(0, 0x9000, 4);
  expect(takeRecords(host, amd)).toHaveLength(255);
});

test('smmuv3: what is refused is in the event queue; an entry that aborts says nothing', () => {
  const { host, smmu, driver, functions, engines } = smallVendor('smmuv3', { streamTable: 'linear' });
  expect(engines[1]!.read(0, 0x1000, 4)).toBe(SmmuEvent.ABORTED);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 1);
  driver.attach(domain, functions[0]!);
  expect([engines[0]!.write(0, 0x1004, 4), engines[0]!.read(1, 0x2000, 4)]).toEqual([SmmuEvent.F_PERMISSION, SmmuEvent.F_TRANSLATION]);
  expect(takeSmmuRecords(host, smmu)).toEqual([
    { type: 0x13, streamId: 0x108, read: false, stage2: false, class: EventClass.INPUT, iovaHigh: 0, iovaLow: 0x1004, ipaPage: 0 },
    { type: 0x10, streamId: 0x108, read: true, stage2: false, class: EventClass.INPUT, iovaHigh: 1, iovaLow: 0x2000, ipaPage: 0 },
  ]);
});

test('smmuv3: a nest parent is a stage 2, tagged apart from a stage 1 of the same number', () => {
  const { host, driver, functions, engines } = smallVendor('smmuv3');
  const [first, second] = [driver.allocPagingDomain(functions[0]!, 0), driver.allocPagingDomain(functions[0]!, 1)] as const;
  const frames = [host.frames.allocate(16), host.frames.allocate(16)] as const;
  frames.forEach((frame, index) => host.ram.words.fill(0x100 + index, frame * 1024, frame * 1024 + 1024));
  driver.map(first, 0, 0x1000, frames[0], READ_WRITE);
  driver.map(second, 0, 0x1000, frames[1], READ_WRITE);
  driver.attach(first, functions[0]!);
  driver.attach(second, functions[1]!);
  for (let again = 0; again < 2; again++) {
    engines.forEach((engine) => expect(engine.read(0, 0x1000, 4)).toBe(0));
    expect(engines.map((engine) => engine.bufferWord(0))).toEqual([0x100, 0x101]);
  }
  driver.unmap(second, 0, 0x1000, 1);
  driver.sync(second, 0, 0x1000, 1, true);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([0, SmmuEvent.F_TRANSLATION]);
});

test('smmuv3: a stream that a level-1 descriptor has no table for is a bad one', () => {
  const { host, smmu, driver, functions, engines } = smallVendor('smmuv3');
  driver.attach(driver.identityDomain, functions[0]!);
  poke(host.ram, hpaOf(SmmuRegisters.streamTable.peek(host.kernel, smmu) as Frame) + 8, 0);
  // What is cached goes on to be used until it is invalidated: this stream has no line yet.
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(SmmuEvent.C_BAD_STREAMID);
});

test.each(['amd', 'smmuv3'] as const)('%s: a command that is none stops the ring until software goes on', (vendor) => {
  const { host, amd, smmu, queue } = smallVendor(vendor);
  const { kernel, ram } = host;
  const ring = vendor === 'amd' ? AmdRegisters.commands.peek(kernel, amd) : SmmuRegisters.commands.peek(kernel, smmu);
  const at = hpaOf(UnitCommandRing.frame.peek(kernel, ring) as Frame);
  const put = (index: number, words: readonly number[]): void => words.forEach((word, i) => poke(ram, at + index * 16 + i * 4, word));
  const bad = vendor === 'amd' ? [0, 0xf000_0000, 0, 0] : [0x7f, 0, 0, 0];
  const target = hpaOf(host.frames.allocate(16));
  put(0, bad);
  put(1, vendor === 'amd' ? amdCommands.completionWait(target, 5) : smmuCommands.sync(target, 5));
  UnitCommandRing.tail.poke(kernel, ring, 2);
  queue.step();
  expect([queue.ready(), UnitCommandRing.head.peek(kernel, ring)]).toEqual([false, 0]);
  if (vendor === 'amd') expect(takeRecords(host, amd)).toMatchObject([{ code: AmdEvent.ILLEGAL_COMMAND_ERROR, addressLow: at }]);
  UnitCommandRing.head.poke(kernel, ring, 1);
  UnitCommandRing.stopped.poke(kernel, ring, 0);
  // A wait takes two steps: it marks what is in flight, then it is over.
  queue.step();
  expect(peek(ram, target)).toBe(0);
  queue.step();
  expect([peek(ram, target), queue.ready()]).toEqual([5, false]);
});

test('amd: tables grow with what is mapped, what was mapped before stays, and reports name the domain as before', () => {
  const { host, driver, functions, engines } = smallVendor('amd');
  const before = host.frames.inUse;
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.attach(domain, functions[0]!);
  const root = installedRoot(host, functions[0]!);
  for (const high of [0, 0x80, 0x1_0000, 0x200_0000]) {
    expect(driver.map(domain, high, 0x1000, host.frames.allocate(16), READ_WRITE)).toBe(0);
    expect([engines[0]!.read(0, 0x1000, 4), engines[0]!.read(high, 0x1000, 4)]).toEqual([0, 0]);
    expect(installedRoot(host, functions[0]!)).toBe(root);
  }
  expect(driver.unmap(domain, 0x80, 0x1000, 1)).toBe(1);
  driver.sync(domain, 0x80, 0x1000, 1, true);
  expect([engines[0]!.read(0x80, 0x1000, 4), engines[0]!.read(0, 0x1000, 4)]).toEqual([AmdEvent.IO_PAGE_FAULT, 0]);
  driver.attach(driver.blockedDomain, functions[0]!);
  driver.freeDomain(domain);
  expect(host.frames.inUse).toBe(before + 4);
});
