/** A look-up in the IOTLB that hits: in the lines that the thread keeps for itself, and in the ones that all functions behind a unit share. */
import { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { Iotlb, IotlbView } from '#src/hardware/iotlb';
import type { Question } from '../question.ts';

const domainId = 5;
const iovaHigh = 1;
/** Of 256 lines; no two in one way. */
const pages = 64;

function filled(): IotlbView {
  const memory = Host.create(65_536, 65_536).kernel;
  const iotlb = Iotlb.create(memory);
  Iotlb.on.poke(memory, iotlb, 1);
  const view = new IotlbView(memory, iotlb);
  for (let page = 0; page < pages; page++) view.fill(domainId, iovaHigh, page << 12, (page + 1) as Frame, 3, 1 as Frame, view.epoch());
  return view;
}

function privately(view: IotlbView, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) if (view.lookup(domainId, iovaHigh, (i & (pages - 1)) << 12)) sum = (sum + view.frame) | 0;
  return sum;
}

function shared(view: IotlbView, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) if (view.lookupShared(domainId, iovaHigh, (i & (pages - 1)) << 12)) sum = (sum + view.frame) | 0;
  return sum;
}

export default {
  asks: 'what does a hit of the IOTLB cost, in a thread\'s own lines and in the shared ones?',
  prepare(tiny) {
    const view = filled();
    const operations = tiny ? pages : 4096;
    return {
      rows: [
        { name: 'private', operations, call: () => privately(view, operations) },
        { name: 'shared', operations, against: 'private', call: () => shared(view, operations) },
      ],
    };
  },
} satisfies Question;
