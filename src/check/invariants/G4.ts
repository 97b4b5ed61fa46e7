/** G4, default domain: under a kernel driver that does DMA, a group stays on its default domain. */
import { DriverBound, GroupMoved, GroupReleased } from '../../kernel/events.ts';
import { IommuGroup } from '../../kernel/iommu-group.ts';
import { breach, invariant } from '../invariant.ts';
import { driversOf } from '../records.ts';

export default invariant<null>({
  id: 'G4',
  claim: 'outside the group lock, a group that nobody owns and a kernel driver does DMA through is on its default domain',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [DriverBound, GroupMoved, GroupReleased],
  inspect(_state, view) {
    const memory = view.host.kernel;
    for (const group of view.groups()) {
      if (IommuGroup.mutex.isHeld(memory, group) || IommuGroup.owner.peek(memory, group) !== 0 || driversOf(view, group).length === 0) continue;
      if (IommuGroup.domain.peek(memory, group) === IommuGroup.defaultDomain.peek(memory, group)) continue;
      return breach(`group ${IommuGroup.number.peek(memory, group)} has a kernel driver, and is not on its default domain`, [
        { space: 1, at: IommuGroup.domain.address(memory, group) },
      ]);
    }
    return null;
  },
});
