/**
 * A network card whose kernel driver unmaps lazily: the IOVA waits for a flush, by a timer or because the ring is full, and until then the card may
 * still reach the buffer, whose ever it is by now. How long is bounded (D2), and `correct`; what strict mode promises is D1, by which `buggy` is judged:
 * the same kernel, asked for more. What either costs is asked by a bench, `dma-unmap`.
 */
import { Until } from '#hostmem/atomics';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { Vm } from '../actors/vm.ts';
import { DmaDomain, dmaMap, dmaUnmap, firstDmaIova, flushTimeout, Timer } from '../kernel/dma-iommu.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'a kernel driver unmaps lazily, and its device goes on until a flush is over',
  seed: null,
  race: { number: 9, buggy: 'fq-lazy-window' },
  variants: ['strict-unmap', 'fq-counter-order'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D2', 'D7', 'G1'],

  world(w) {
    w.process('host');
    w.group('nic');
    w.dmaApi('nic', { lazy: true });
    return { buffer: w.buffer('host', 1) };
  },

  actors: ({ vm, device }) => ({
    driver: vm('host', (thread, { buffer }) => {
      for (let i = 0; i < 2; i++) unmap(thread, map(thread, buffer));
    }),

    /** Ten virtual milliseconds after the first unmap. */
    timer: vm('host', (thread) => {
      const nic = thread.named('nic.dma') as Ref<'DmaDomain'>;
      thread.waitIdle(DmaDomain.timer, thread.host.kernel, nic, Until.EQUAL, Timer.ARMED);
      flushTimeout(thread.kernel, nic);
    }),

    /** Reads where a buffer may be; a fault is as good as data. */
    nic: device('nic', (dev) => {
      for (const page of [0, 1]) dev.read(firstDmaIova + page * 4096, 64);
    }),
  }),
});

function map(thread: Vm, buffer: number): number {
  const iova = dmaMap(thread.kernel, thread.named('nic.dma') as Ref<'DmaDomain'>, buffer as Frame, 1);
  thread.check(iova !== 0, 'no IOVA is free');
  return iova;
}

function unmap(thread: Vm, iova: number): void {
  dmaUnmap(thread.kernel, thread.named('nic.dma') as Ref<'DmaDomain'>, iova, 1);
}
