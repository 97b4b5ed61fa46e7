/**
 * A pair of dma_map and dma_unmap of a kernel driver, of one page: strict, where each unmap waits for its flush, and lazy, where a flush serves as many as its
 * queue holds (here 4, in Linux 256 for each CPU). A flush of the
 * model takes no time but its own work, so that the two differ by less than on hardware. What lazy costs in safety is the scenario `fq-lazy-window`.
 */
import type { Frame } from '#hostmem/memory';
import { liveObjects } from '#hostmem/object';
import type { Ref } from '#hostmem/object';
import { dmaMap, dmaUnmap } from '#src/kernel/dma-iommu';
import type { Kernel } from '#src/kernel/kernel';
import { World } from '#src/world';
import type { Question } from '../question.ts';

interface Driver {
  readonly kernel: Kernel;
  readonly dma: Ref<'DmaDomain'>;
  readonly buffer: Frame;
}

function driver(lazy: boolean): Driver {
  const world = new World();
  world.process('host');
  world.device('nic');
  world.dmaApi('nic', { lazy });
  return { kernel: world.kernel, dma: world.directory['nic.dma'] as Ref<'DmaDomain'>, buffer: world.buffer('host', 1) as Frame };
}

/** The sum is of the iovas, and of objects that live on. */
function pairs({ kernel, dma, buffer }: Driver, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const iova = dmaMap(kernel, dma, buffer, 1);
    sum = (sum + iova) | 0;
    dmaUnmap(kernel, dma, iova, 1);
  }
  return sum + liveObjects(kernel.memory);
}

export default {
  asks: 'what does a strict unmap of the DMA API cost, and what a lazy one?',
  prepare(tiny) {
    // A multiple of what goes round in the queue: every call finds it as the one before did.
    const operations = tiny ? 4 : 400;
    const [strict, lazy] = [driver(false), driver(true)];
    return {
      rows: [
        { name: 'strict', operations, call: () => pairs(strict, operations) },
        { name: 'lazy', operations, against: 'strict', call: () => pairs(lazy, operations) },
      ],
    };
  },
} satisfies Question;
