/** D7, live memory: no DMA touches a frame that is free, or one that holds page tables or other kernel state; no walk reads a table that is gone. */
import { Owner } from '#hostmem/frames';
import { deadTableRead, dma, pasidDma } from '../../hardware/events.ts';
import { frameText, functionText, iovaText, ownerOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'D7',
  claim: 'no DMA touches a free frame, nor one that belongs to the kernel or to page tables, and no walk of hardware reads a table that was freed',
  events: [dma, pasidDma, deadTableRead],
  start: () => null,
  step(_state, event) {
    if (event.kind === deadTableRead.kind) {
      const { source, frame } = deadTableRead.get;
      return breach(`a walk for requester 0x${source(event).toString(16)} read a table in frame 0x${frame(event).toString(16)}, which is none any more`);
    }
    const owner = ownerOf(event);
    if (dma.get.frame(event) === 0 || owner >= Owner.firstProcess) return null;
    const what = owner === Owner.FREE ? 'which is free' : owner === Owner.TABLE ? 'a page table' : "the kernel's";
    return breach(`a DMA of ${functionText(event)} through ${iovaText(event)} touched ${frameText(event)}, ${what}`);
  },
});
