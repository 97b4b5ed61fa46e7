/** D10, owned memory: a device reaches only frames of the process through whose iommufd its group is owned. */
import { Owner } from '#hostmem/frames';
import { dma } from '../../hardware/events.ts';
import { VfioCall, VfioCalled, VfioReturned } from '../../kernel/events.ts';
import { frameText, functionText, iovaText, ownerOf, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

/** The process that owns each group, by number; binds tell, and the records for what was bound before. */
type Owners = Map<number, number>;

export default invariant<Owners>({
  id: 'D10',
  claim: 'a DMA reaches only frames owned by the process whose iommufd the device is attached through',
  events: [VfioCalled, VfioReturned, dma],
  start: () => new Map(),
  step(owners, event, view) {
    if (event.kind === VfioCalled.kind) {
      // From the start of a bind or a close on, the owner may change: it is read anew when the next DMA completes.
      if (changesOwner(VfioCalled.get.what(event))) owners.delete(VfioCalled.get.group(event));
      return null;
    }
    if (event.kind === VfioReturned.kind) {
      const isBind = VfioReturned.get.what(event) === VfioCall.BIND && VfioReturned.get.errno(event) === 0;
      if (isBind) owners.set(VfioReturned.get.group(event), VfioReturned.get.process(event));
      return null;
    }
    const owner = ownerOf(event);
    if (dma.get.frame(event) === 0 || owner < Owner.firstProcess) return null;
    const group = view.groupOf(ridOf(event));
    if (!owners.has(group)) owners.set(group, view.processOwning(group));
    const expected = owners.get(group)!;
    if (owner === Owner.firstProcess + expected || expected < 0) return null;
    return breach(
      `a DMA of ${functionText(event)} through ${iovaText(event)} reached ${frameText(event)} of process ${owner - Owner.firstProcess}, ` +
        `but its group belongs to process ${expected}`,
    );
  },
});

const changesOwner = (what: number): boolean => what === VfioCall.BIND || what === VfioCall.CLOSE;
