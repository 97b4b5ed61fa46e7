/**
 * A network card whose kernel driver unmaps lazily: the IOVA waits for a flush, by a timer or because the ring is full, and until then the card may
 * still reach the buffer, whose ever it is by now. How long is bounded (D2), and `correct`; what strict mode promises is D1, by which `buggy` is judged:
 * the same kernel, asked for more. What either costs is asked by a bench, `dma-unmap`.
 */
import { HostDriver } from '../actors/host-driver.ts';
import { firstDmaIova } from '../kernel/dma-iommu.ts';
import { scenario } from '../scenario.ts';

export default scenario({
  title: 'a kernel driver unmaps lazily, and its device goes on until a flush is over',
  seed: null,
  race: { number: 9, buggy: 'fq-lazy-window' },
  variants: ['strict-unmap', 'fq-counter-order'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D2', 'D7', 'D9', 'G1'],

  world(w) {
    w.process('host');
    w.group('nic');
    w.dmaApi('nic', { lazy: true });
    return { buffer: w.buffer('host', 1) };
  },

  actors: ({ vm, device }) => ({
    driver: vm('host', (thread, { buffer }) => {
      const nic = new HostDriver(thread, 'nic');
      for (let i = 0; i < 2; i++) nic.dmaUnmap(nic.dmaMap(buffer, 1), 1);
    }),

    /** Ten virtual milliseconds after the first unmap. */
    timer: vm('host', (thread) => new HostDriver(thread, 'nic').flushLate()),

    /** Reads where a buffer may be; a fault is as good as data. */
    nic: device('nic', (dev) => {
      for (const page of [0, 1]) dev.read(firstDmaIova + page * 4096, 64);
    }),
  }),
});
