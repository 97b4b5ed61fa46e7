import { silent } from '#hostmem/atomics';
import type { Frame } from '#hostmem/memory';
import { Batch } from '#src/drivers/vtd/batch';
import { InFlight, PciFunction } from '#src/hardware/function';
import { IommuUnit } from '#src/hardware/unit';
import { VtdRegisters } from '#src/hardware/vtd/registers';
import { expect, test } from 'vitest';
import { BareQueue } from './bare-queue.ts';
import { scalableUnit, smallMachine } from './small-machine.ts';
import { firstStageTag } from '#src/hardware/iotlb';
import { ContextCache, PasidCache } from '#src/hardware/vtd/entry-caches';
import { WalkCache } from '#src/hardware/walk-cache';

const words = (batch: Batch): number[] => [0, 1, 2, 3].map((index) => batch.word(0, index) >>> 0);

test('descriptors have their fields where the specification has them', () => {
  const batch = new Batch();
  expect(words(batch.clear().contextCacheOfRequester(0x1234, 0x0108))).toEqual([0x12340031, 0x0108, 0, 0]);
  expect(words(batch.clear().contextCacheOfDomain(0x1234))).toEqual([0x12340021, 0, 0, 0]);
  expect(words(batch.clear().iotlbAll())).toEqual([0xd2, 0, 0, 0]);
  expect(words(batch.clear().iotlbOfDomain(7))).toEqual([0x000700e2, 0, 0, 0]);
  expect(words(batch.clear().iotlbPages(7, 0x12, 0x8000, 0, false))).toEqual([0x000700f2, 0, 0x8000, 0x12]);
  expect(words(batch.clear().iotlbPages(7, 0x12, 0x5000, 4, true))).toEqual([0x000700f2, 0, 0x44, 0x12]);
  expect(words(batch.clear().iotlbPages(7, 0x17, 0xfffff000 | 0, 22, true))).toEqual([0x000700f2, 0, 0x56, 0x14]);
});

test('descriptors are carried out in order, one a step, and the ring wraps', () => {
  const bare = new BareQueue(smallMachine());
  const { queue } = bare;
  for (let round = 0; round < 5; round++) {
    for (let i = 0; i < 100; i++) bare.pushWait(i, round * 100 + i + 1);
    for (let i = 0; i < 100; i++) {
      expect(queue.ready()).toBe(true);
      expect([bare.status(i), bare.head]).toEqual([round === 0 ? 0 : (round - 1) * 100 + i + 1, (round * 100 + i) % 256]);
      queue.step();
      expect(bare.status(i)).toBe(round * 100 + i + 1);
    }
    expect(queue.ready()).toBe(false);
  }
});

test('a wait is not possible while a transaction that began before the invalidation is in flight', () => {
  const small = smallMachine();
  const bare = new BareQueue(small);
  const { kernel } = small.host;
  const slot = PciFunction.inFlight.address(kernel, small.functions[0]!);
  const set = (transaction: number, flags: number): void => silent.store(kernel, slot, transaction * InFlight.countUnit + flags);
  const invalidate = (drain: number): void => {
    bare.push(0x12 | drain, 0, 0, 0);
    bare.pushWait(0, 1);
    bare.queue.step();
  };
  set(1, InFlight.BUSY);
  invalidate(0xc0);
  expect(bare.queue.ready()).toBe(false);
  set(1, 0);
  expect(bare.queue.ready()).toBe(true);
  set(2, InFlight.BUSY);
  expect(bare.queue.ready()).toBe(true);
  bare.queue.step();
  expect(bare.status(0)).toBe(1);

  set(3, InFlight.BUSY | InFlight.WRITE);
  for (const [drain, possible] of [[0, true], [0x80, true], [0x40, false]] as const) {
    invalidate(drain);
    expect([drain, bare.queue.ready()]).toEqual([drain, possible]);
    set(3, possible ? InFlight.BUSY | InFlight.WRITE : 0);
    expect(bare.queue.ready()).toBe(true);
    bare.queue.step();
  }
});

test('another transaction of the function, begun after the invalidation, is not waited for', () => {
  const small = smallMachine();
  const bare = new BareQueue(small);
  const { kernel } = small.host;
  const slot = PciFunction.inFlight.address(kernel, small.functions[1]!);
  silent.store(kernel, slot, InFlight.countUnit | InFlight.BUSY);
  bare.push(0xd2, 0, 0, 0);
  bare.pushWait(0, 1);
  bare.queue.step();
  expect(bare.queue.ready()).toBe(false);
  silent.store(kernel, slot, 2 * InFlight.countUnit | InFlight.BUSY);
  expect(bare.queue.ready()).toBe(true);
});

test('a bad descriptor stops the queue at it until software clears the error', () => {
  const bad: (readonly [number, number, number, number])[] = [
    [0, 0, 0, 0],
    [3, 0, 0, 0],
    [0x2, 0, 0, 0],
    [0x1, 0, 0, 0],
    [0x32, 0, 19, 0],
    [0x212, 0, 0, 0],
    [0x25, 1, 2, 0],
  ];
  const wideBad: (readonly [number, number, number, number])[] = [[0x16, 0, 0, 0], [0x46, 0, 0, 0], [0x36, 0, 19, 0], [0x27, 0, 0, 0], [0x57, 0, 0, 0]];
  const bare16 = [...bad, [0x17, 0, 0, 0] as const, [0x26, 0, 0, 0] as const].map((descriptor) => ({ descriptor, bare: new BareQueue(smallMachine()) }));
  const bare32 = [...bad, ...wideBad].map((descriptor) => ({ descriptor, bare: new BareQueue(smallMachine(scalableUnit), 32) }));
  for (const { descriptor, bare } of [...bare16, ...bare32]) {
    bare.pushWait(0, 1);
    bare.push(...descriptor);
    bare.pushWait(1, 1);
    for (let i = 0; i < 10 && bare.queue.ready(); i++) bare.queue.step();
    expect([descriptor, bare.error, bare.head, bare.status(0), bare.status(1)]).toEqual([descriptor, true, 1, 1, 0]);
  }
});

test('a queue that is not enabled fetches nothing', () => {
  const small = smallMachine();
  const bare = new BareQueue(small);
  VtdRegisters.globalStatus.poke(small.host.kernel, small.registers, 0);
  bare.pushWait(0, 1);
  expect(bare.queue.ready()).toBe(false);
});

test('each granularity of an IOTLB descriptor reaches the cache', () => {
  const small = smallMachine();
  const bare = new BareQueue(small);
  const iotlb = small.machine.unit(small.unit).translation.iotlb;
  const left = (batch: Batch): string[] => {
    iotlb.invalidateAll();
    const keys = [2, 3].flatMap((domainId) => [0x4000, 0x7000, 0x8000].map((iova) => ({ domainId, iova })));
    for (const key of keys) iotlb.fill(key.domainId, 0, key.iova, 5 as Frame, 3, 9 as Frame, iotlb.epoch());
    bare.pushBatch(batch);
    bare.queue.step();
    return keys.filter((key) => iotlb.lookup(key.domainId, 0, key.iova)).map((key) => `${key.domainId}:${key.iova.toString(16)}`);
  };
  const batch = new Batch();
  expect(left(batch.clear().contextCacheOfDomain(2))).toEqual(['2:4000', '2:7000', '2:8000', '3:4000', '3:7000', '3:8000']);
  expect(left(batch.clear().iotlbPages(2, 0, 0x7000, 0, true))).toEqual(['2:4000', '2:8000', '3:4000', '3:7000', '3:8000']);
  expect(left(batch.clear().iotlbPages(2, 0, 0x7000, 2, true))).toEqual(['2:8000', '3:4000', '3:7000', '3:8000']);
  expect(left(batch.clear().iotlbOfDomain(2))).toEqual(['3:4000', '3:7000', '3:8000']);
  expect(left(batch.clear().iotlbAll())).toEqual([]);
});

test('each granularity of a PASID-cache descriptor reaches the cache', () => {
  const small = smallMachine(scalableUnit);
  const bare = new BareQueue(small, 32);
  const cache = new PasidCache(small.host.kernel, IommuUnit.pasidCache.peek(small.host.kernel, small.unit));
  const keys = [2, 3].flatMap((domainId) => [7, 8].map((pasid) => ({ sourceId: domainId << 3, pasid, domainId })));
  const left = (word0: number, pasid: number): string[] => {
    for (const { sourceId, pasid: each, domainId } of keys) cache.fill(sourceId, each, domainId, { word0: 1, word1: domainId, word2: 0 }, cache.epoch());
    bare.push(word0, pasid, 0, 0);
    bare.queue.step();
    return keys.filter(({ sourceId, pasid: each }) => cache.lookup(sourceId, each, { word0: 0, word1: 0, word2: 0 })).map((key) => `${key.domainId}:${key.pasid}`);
  };
  expect(left((2 << 16) | 0x17, 8)).toEqual(['2:7', '3:7', '3:8']);
  expect(left((3 << 16) | 0x07, 8)).toEqual(['2:7', '2:8']);
  expect(left(0x37, 0)).toEqual([]);
});

test('each granularity of a PASID-IOTLB descriptor reaches the IOTLB, and drains', () => {
  const small = smallMachine(scalableUnit);
  const bare = new BareQueue(small, 32);
  const iotlb = small.machine.unit(small.unit).translation.iotlb;
  const left = (batch: Batch): string[] => {
    const keys = [7, 8].flatMap((pasid) => [0x4000, 0x7000].map((iova) => ({ pasid, iova })));
    for (const { pasid, iova } of keys) iotlb.fill(2, 0, iova, 5 as Frame, 3, 9 as Frame, iotlb.epoch(), firstStageTag | pasid);
    bare.pushBatch(batch);
    bare.queue.step();
    return keys.filter(({ pasid, iova }) => iotlb.lookup(2, 0, iova, firstStageTag | pasid)).map(({ pasid, iova }) => `${pasid}:${iova.toString(16)}`);
  };
  const batch = new Batch();
  expect(left(batch.clear().pasidIotlb(2, 7, 0, 0x4000, 0, true))).toEqual(['7:7000', '8:4000', '8:7000']);
  expect(left(batch.clear().pasidIotlb(2, 7, 0, 0x4000, 2, true))).toEqual(['8:4000', '8:7000']);
  expect(left(batch.clear().pasidIotlb(2, 8, 0, 0, -1, false))).toEqual(['7:4000', '7:7000']);
  const slot = PciFunction.inFlight.address(small.host.kernel, small.functions[0]!);
  silent.store(small.host.kernel, slot, InFlight.countUnit | InFlight.BUSY);
  left(batch.clear().pasidIotlb(2, 8, 0, 0, -1, false));
  bare.pushWait(0, 1);
  expect(bare.queue.ready()).toBe(false);
});

test('each granularity of a context-cache descriptor reaches the cache', () => {
  const small = smallMachine();
  const bare = new BareQueue(small);
  const cache = new ContextCache(small.host.kernel, IommuUnit.contextCache.peek(small.host.kernel, small.unit));
  const keys = [0x108, 0x109, 0x10a, 0x110].map((sourceId, index) => ({ sourceId, domainId: 2 + (index & 1) }));
  const left = (first: number, second: number): number[] => {
    for (const { sourceId, domainId } of keys) cache.fill(sourceId, domainId, { word0: 1, word1: 2, word2: 0 }, cache.epoch());
    bare.push(first, second, 0, 0);
    bare.queue.step();
    return keys.map(({ sourceId }) => sourceId).filter((sourceId) => cache.lookup(sourceId, { word0: 0, word1: 0, word2: 0 }));
  };
  expect(left(0x31, 0x109)).toEqual([0x108, 0x10a, 0x110]);
  expect(left(0x31, 0x30108)).toEqual([0x110]);
  expect(left((2 << 16) | 0x21, 0)).toEqual([0x109, 0x110]);
  expect(left(0x11, 0)).toEqual([]);
});

test('an IOTLB descriptor drops tables of the walk cache unless it hints that only leaves changed', () => {
  const small = smallMachine();
  const bare = new BareQueue(small);
  const { kernel } = small.host;
  const iotlb = small.machine.unit(small.unit).translation.iotlb;
  const cache = new WalkCache(kernel, IommuUnit.walkCache.peek(kernel, small.unit), iotlb.at);
  const iovas = [0x0000_5000, 0x0020_0000, 0x4000_0000];
  const left = (batch: Batch): number[] => {
    for (const iova of iovas) cache.fill(2, 0, iova, 0, 7 as Frame, 1, 3, iotlb.epoch());
    bare.pushBatch(batch);
    bare.queue.step();
    return iovas.filter((iova) => cache.lookup(2, 0, iova, 0));
  };
  const batch = new Batch();
  expect(left(batch.clear().iotlbPages(2, 0, 0x5000, 0, true))).toEqual(iovas);
  expect(left(batch.clear().iotlbPages(2, 0, 0x9000, 0, false))).toEqual(iovas.slice(1));
  expect(left(batch.clear().iotlbPages(2, 0, 0, 10, false))).toEqual(iovas.slice(2));
  expect(left(batch.clear().iotlbOfDomain(3))).toEqual(iovas);
  expect(left(batch.clear().iotlbOfDomain(2))).toEqual([]);
});
