/**
 * A kernel driver maps 2 MiB in one leaf and unmaps the first half of it: the leaf goes as a whole, and with it has to go what the unit
 * cached of the second half.
 */
import { HostDriver } from '../actors/host-driver.ts';
import { scenario } from '../scenario.ts';

const iova = 0x4000_0000;
const pages = 512;
const tail = iova + 400 * 4096;

export default scenario({
  title: 'an unmap ends inside a large leaf, which goes as a whole',
  seed: null,
  host: { ramBytes: 8 << 20 },
  variants: ['unmap-short-gather'],
  holds: ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D7', 'G1'],

  world(w) {
    w.process('host');
    w.group('gpu');
    w.dmaApi('gpu', { lazy: false });
    return { buffer: w.buffer('host', pages) };
  },

  actors: ({ vm, device }) => ({
    driver: vm('host', (thread, { buffer }) => {
      const gpu = new HostDriver(thread, 'gpu');
      gpu.map(iova, buffer, pages);
      const removed = gpu.unmap(iova, pages / 2);
      thread.check(removed === pages, `the unmap removed ${removed} pages, not the leaf`);
      thread.check(thread.dma('gpu', 'read', tail, 64) !== 0, 'a DMA completed through the leaf that is gone');
    }),

    gpu: device('gpu', (dev) => {
      dev.read(tail, 64);
      dev.serve(1);
    }),
  }),
});
