/**
 * Two network cards with kernel drivers, one whose unmaps flush at once and one whose unmaps are queued: after a strict unmap a DMA
 * faults, after a lazy one it may still reach the buffer until the timer, or a full ring, has flushed.
 */
import { Until } from '#hostmem/atomics';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { Device } from '../actors/device.ts';
import type { Vm } from '../actors/vm.ts';
import { DmaDomain, dmaMap, dmaUnmap, firstDmaIova, flushTimeout, Timer } from '../kernel/dma-iommu.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'strict and lazy unmaps of kernel drivers, side by side',
  seed: null,
  variants: ['fq-counter-order'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D2', 'D7', 'G1'],

  world(w) {
    w.process('host');
    for (const name of ['strict', 'lazy']) {
      w.group(name);
      w.dmaApi(name, { lazy: name === 'lazy' });
    }
    return { buffer: w.buffer('host', 1) };
  },

  actors: ({ vm, device }) => ({
    'strict driver': vm('host', (thread, { buffer }) => {
      unmap(thread, 'strict', map(thread, 'strict', buffer, 1));
    }),
    'lazy driver': vm('host', (thread, { buffer }) => {
      for (const count of [1, 1, 2]) unmap(thread, 'lazy', map(thread, 'lazy', buffer, count));
    }),

    /** Ten virtual milliseconds after the first lazy unmap. */
    timer: vm('host', (thread) => {
      const lazy = thread.named('lazy.dma') as Ref<'DmaDomain'>;
      thread.waitIdle(DmaDomain.timer, thread.host.kernel, lazy, Until.EQUAL, Timer.ARMED);
      flushTimeout(thread.kernel, lazy);
    }),

    strict: device('strict', (dev) => touch(dev)),
    lazy: device('lazy', (dev) => touch(dev)),
  }),
});

/** Maps a buffer, as often as asked, for a card; returns the IOVAs. */
function map(thread: Vm, card: string, buffer: number, count: number): number[] {
  const iovas: number[] = [];
  for (let i = 0; i < count; i++) iovas.push(dmaMap(thread.kernel, thread.named(`${card}.dma`) as Ref<'DmaDomain'>, buffer as Frame, 1));
  thread.check(!iovas.includes(0), 'no IOVA is free');
  return iovas;
}

function unmap(thread: Vm, card: string, iovas: readonly number[]): void {
  for (const iova of iovas) dmaUnmap(thread.kernel, thread.named(`${card}.dma`) as Ref<'DmaDomain'>, iova, 1);
}

/** Reads wherever the driver may have a buffer; a fault is as good as data. */
function touch(dev: Device): void {
  for (const page of [0, 1, 0, 1]) dev.read(firstDmaIova + page * 4096, 64);
}
