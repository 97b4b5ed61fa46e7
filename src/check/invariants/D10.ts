/** D10, owned memory: a device reaches only frames of the process through whose iommufd its group is owned. */
import { Owner } from '#hostmem/frames';
import { dma } from '../../hardware/events.ts';
import { GroupClaimed, GroupReleased } from '../../kernel/events.ts';
import { frameText, functionText, iovaText, ownerOf, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

/** The process that owns each group, by number. */
type Owners = Map<number, number>;

export default invariant<Owners>({
  id: 'D10',
  claim: 'a DMA reaches only frames owned by the process whose iommufd the device is attached through',
  events: [GroupClaimed, GroupReleased, dma],
  start: ({ builtOwners }) => new Map(builtOwners),
  step(owners, event, view) {
    if (event.kind === GroupClaimed.kind) owners.set(GroupClaimed.get.group(event), GroupClaimed.get.process(event));
    else if (event.kind === GroupReleased.kind) owners.delete(GroupReleased.get.group(event));
    if (event.kind !== dma.kind) return null;
    const owner = ownerOf(event);
    if (dma.get.frame(event) === 0 || owner < Owner.firstProcess) return null;
    const expected = owners.get(view.groupOf(ridOf(event))) ?? -1;
    if (owner === Owner.firstProcess + expected || expected < 0) return null;
    return breach(
      `a DMA of ${functionText(event)} through ${iovaText(event)} reached ${frameText(event)} of process ${owner - Owner.firstProcess}, ` +
        `but its group belongs to process ${expected}`,
    );
  },
});
