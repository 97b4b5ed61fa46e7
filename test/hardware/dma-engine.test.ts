import { Cursor, History, historyBytes } from '#hostmem/history';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { IommuDomain } from '#src/drivers/domain';
import { noMemory } from '#src/hardware/dma-engine';
import { dma as dmaEvent } from '#src/hardware/events';
import { PciFunction } from '#src/hardware/function';
import { FaultReason } from '#src/hardware/vtd/faults';
import { expect, test } from 'vitest';
import { smallMachine, type SmallMachine } from './small-machine.ts';

/** A domain with two pages at 0x10000 and a hole behind them. */
function attached(): SmallMachine & { domain: Ref<'IommuDomain'>; pages: Frame[] } {
  const small = smallMachine();
  const domain = small.driver.allocPagingDomain(small.functions[0]!, 0);
  small.driver.attach(domain, small.functions[0]!);
  const pages = [small.host.frames.allocate(16), small.host.frames.allocate(16)];
  for (const [index, page] of pages.entries()) small.driver.map(domain, 0, 0x10000 + index * 4096, page, 3);
  return { ...small, domain, pages };
}

test('what is written through one IOVA is read back, word for word, also across a page border', () => {
  const { engines, host, pages } = attached();
  const dma = engines[0]!;
  for (let i = 0; i < 1024; i++) dma.setBufferWord(i, (i * 0x9e3779b1) | 0);
  expect(dma.write(0, 0x10ff0, 4096)).toBe(0);
  expect(host.ram.words[pages[0]! * 1024 + 0xffc / 4]).toBe((3 * 0x9e3779b1) | 0);
  expect(host.ram.words[pages[1]! * 1024]).toBe((4 * 0x9e3779b1) | 0);
  dma.fillBuffer(0);
  expect(dma.read(0, 0x10ff0, 4096)).toBe(0);
  expect(Array.from({ length: 1024 }, (_, i) => dma.bufferWord(i))).toEqual(Array.from({ length: 1024 }, (_, i) => (i * 0x9e3779b1) | 0));
});

test('a read into a hole gives what is there, then zeros; the fault names the second page', () => {
  const { engines, faults, host, pages } = attached();
  const dma = engines[0]!;
  host.ram.words.fill(7, pages[1]! * 1024, pages[1]! * 1024 + 1024);
  dma.fillBuffer(-1);
  expect(dma.read(0, 0x11fe0, 64)).toBe(FaultReason.READ_DENIED);
  expect(Array.from({ length: 17 }, (_, i) => dma.bufferWord(i))).toEqual([...Array<number>(8).fill(7), ...Array<number>(8).fill(0), -1]);
  expect(faults().map((fault) => fault.iovaLow)).toEqual([0x12000]);
});

test('a write into a hole lands as far as pages are mapped', () => {
  const { engines, host, pages } = attached();
  const dma = engines[0]!;
  dma.fillBuffer(5);
  expect(dma.write(0, 0x11fe0, 64)).toBe(FaultReason.WRITE_DENIED);
  expect(host.ram.words[pages[1]! * 1024 + 1023]).toBe(5);
});

test('an IOVA carries from the low word into the high one', () => {
  const { driver, domain, engines, pages } = attached();
  driver.map(domain, 0, 0xfffff000 | 0, pages[0]!, 3);
  driver.map(domain, 1, 0, pages[1]!, 3);
  expect(engines[0]!.write(0, 0xfffffff8 | 0, 16)).toBe(0);
});

test('the interrupt window reaches no memory and faults neither', () => {
  const { engines, faults } = attached();
  const dma = engines[0]!;
  dma.fillBuffer(9);
  expect([dma.write(0, 0xfee00000 | 0, 4), dma.read(0, 0xfeeffffc | 0, 4)]).toEqual([0, 0]);
  expect(dma.bufferWord(0)).toBe(0);
  expect(faults()).toEqual([]);
});

test('in identity a request goes to the address it names, and is aborted where there is no memory', () => {
  const { driver, engines, functions, host } = attached();
  expect(driver.attach(driver.identityDomain, functions[0]!)).toBe(0);
  const frame = host.frames.allocate(16);
  engines[0]!.setBufferWord(0, 42);
  expect(engines[0]!.write(0, frame * 4096, 4)).toBe(0);
  expect(host.ram.words[frame * 1024]).toBe(42);
  expect(engines[0]!.read(0, 0x7ffff000, 4)).toBe(noMemory);
  expect(engines[0]!.read(0x80, 0, 4)).toBe(FaultReason.BEYOND_WIDTH);
});

test('every page of a transfer is an event that tells how it was translated', () => {
  const { domain, engines, host, pages } = attached();
  const history = new History(new SharedArrayBuffer(historyBytes(1, 64)), 1, 64);
  host.kernel.history = history;
  engines[0]!.write(0, 0x10ff8, 16);
  engines[0]!.read(0, 0x12000, 4);
  host.kernel.history = null;
  const cursor = new Cursor(history.words);
  const get = dmaEvent.get;
  const indices = Array.from({ length: history.length(0) }, (_, index) => index).filter((index) => {
    cursor.at = history.at(0, index);
    return cursor.kind === dmaEvent.kind;
  });
  const seen = indices.map((index) => {
    cursor.at = history.at(0, index);
    expect(get.begin(cursor)).toBeLessThan(cursor.stamp);
    return [get.function(cursor), get.iovaHigh(cursor), get.iovaLow(cursor), get.frame(cursor), get.root(cursor)];
  });
  const root = IommuDomain.root.peek(host.kernel, domain);
  const owner = (frame: Parameters<typeof host.frames.ownerOf>[0]): number => host.frames.ownerOf(frame);
  expect(owner(pages[0]!)).toBeGreaterThan(0);
  expect(seen).toEqual([
    [0x10108, 0, 0x10000 | owner(pages[0]!), pages[0], root],
    [0x10108, 0, 0x11000 | owner(pages[1]!), pages[1], root],
    [0x0108 | (6 << 17), 0, 0x12000, 0, root],
  ]);
});

test('counters tell transactions, hits, faults and bytes', () => {
  const { engines, functions, host } = attached();
  engines[0]!.read(0, 0x10000, 4096);
  engines[0]!.read(0, 0x10000, 64);
  engines[0]!.read(0, 0x12000, 64);
  const counters = [PciFunction.transactions, PciFunction.hits, PciFunction.faults, PciFunction.bytes];
  expect(counters.map((counter) => counter.peek(host.kernel, functions[0]!))).toEqual([3, 1, 1, 4160]);
});

test('a transfer that is no multiple of words or larger than the buffer is refused', () => {
  const { engines } = attached();
  expect(() => engines[0]!.read(0, 0x10000, 6)).toThrow(RangeError);
  expect(() => engines[0]!.read(0, 0x10002, 4)).toThrow(RangeError);
  expect(() => engines[0]!.write(0, 0x10000, 4100)).toThrow(RangeError);
  expect(() => engines[0]!.write(0, 0x10000, 8, 4092)).toThrow(RangeError);
});
