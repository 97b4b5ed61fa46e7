/** The DMA API, strict and lazy side by side: what a device reaches after an unmap, and when an IOVA is free again. */
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Machine } from '#src/hardware/machine';
import { DmaDomain, dmaMap, dmaUnmap, firstDmaIova, flushTimeout, flushTimeoutMs, iommuMap, iommuUnmap, Timer } from '#src/kernel/dma-iommu';
import { World } from '#src/world';
import { expect, test } from 'vitest';

function card(lazy: boolean) {
  const world = new World({ ramBytes: 8 << 20 });
  world.process('host');
  world.group('nic');
  world.dmaApi('nic', { lazy });
  const buffer = world.buffer('host', 1) as Frame;
  const memory = world.host.kernel;
  const dma = world.directory['nic.dma'] as Ref<'DmaDomain'>;
  const engine = new Machine(world.host).dma(world.directory['nic'] as Ref<'PciFunction'>);
  return {
    world, memory, dma, buffer,
    map: (pages = 1) => dmaMap(world.kernel, dma, buffer, pages),
    unmap: (iova: number, pages = 1) => dmaUnmap(world.kernel, dma, iova, pages),
    timer: () => flushTimeout(world.kernel, dma),
    armed: () => DmaDomain.timer.peek(memory, dma) === Timer.ARMED,
    reaches: (iova: number) => engine.read(0, iova, 4) === 0,
  };
}

test('a strict unmap returns when nothing reaches the page, and its IOVA is free', () => {
  const { map, unmap, reaches, armed } = card(false);
  const iova = map();
  expect([iova, reaches(iova)]).toEqual([firstDmaIova, true]);
  unmap(iova);
  expect([reaches(iova), armed(), map()]).toEqual([false, false, iova]);
});

test('a lazy unmap returns at once: the page is reached and its IOVA taken until the timer has flushed', () => {
  const { map, unmap, reaches, armed, timer, dma, memory } = card(true);
  const first = map();
  expect(reaches(first)).toBe(true);
  unmap(first);
  expect([reaches(first), armed(), map()]).toEqual([true, true, first + 4096]);
  timer();
  expect([reaches(first), armed(), DmaDomain.clockMs.peek(memory, dma), map()]).toEqual([false, false, flushTimeoutMs, first]);
});

test('a lazy unmap that finds the ring full flushes, and then itself waits for the next', () => {
  const { map, unmap, reaches } = card(true);
  const iovas = [0, 1, 2, 3].map(() => map());
  for (const iova of iovas) expect(reaches(iova)).toBe(true);
  for (const iova of iovas.slice(0, 3)) unmap(iova);
  expect(iovas.map(reaches)).toEqual([true, true, true, true]);
  unmap(iovas[3]!);
  expect(iovas.map(reaches)).toEqual([false, false, false, false]);
  expect([map(), map(), map(), map()]).toEqual([...iovas.slice(0, 3), firstDmaIova + 4 * 4096]);
});

test('IOVAs are aligned to their size, and run out', () => {
  const { map } = card(false);
  expect([map(), map(4), map(2), map(512)]).toEqual([0, 4, 2, 512].map((page) => firstDmaIova + page * 4096));
  expect([map(2048), map(1024)]).toEqual([0, firstDmaIova + 1024 * 4096]);
});

test('an unmap that ends inside a large leaf takes all of it, from the caches too', () => {
  const { world, dma, memory, reaches } = card(false);
  const domain = DmaDomain.domain.peek(memory, dma);
  const large = world.buffer('host', 512) as Frame;
  expect(iommuMap(world.kernel, domain, 0x4000_0000, large, 512)).toBe(true);
  expect(reaches(0x401f_f000)).toBe(true);
  expect(iommuUnmap(world.kernel, domain, 0x4000_0000, 1)).toBe(512);
  expect(reaches(0x401f_f000)).toBe(false);
});
