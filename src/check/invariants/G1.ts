/** G1, uniform group: every member's table entry is the one of the group's domain. */
import { GroupMoved } from '../../kernel/events.ts';
import { IommuGroup } from '../../kernel/iommu-group.ts';
import { breach, invariant } from '../invariant.ts';
import { strayMember } from '../records.ts';

/** The group whose move ended with the last event: it is judged although the mutex that it moved under is still held. */
interface JustMoved {
  group: number;
}

export default invariant<JustMoved>({
  id: 'G1',
  claim: 'outside the group lock, every member of a group translates through the domain of the group',
  events: [GroupMoved],
  start: () => ({ group: -1 }),
  step(justMoved, event) {
    justMoved.group = GroupMoved.get.group(event);
    return null;
  },
  inspectAfter: [GroupMoved],
  inspect(justMoved, view) {
    const memory = view.host.kernel;
    const moved = justMoved.group;
    justMoved.group = -1;
    for (const group of view.groups()) {
      const number = IommuGroup.number.peek(memory, group);
      if (number !== moved && IommuGroup.mutex.isHeld(memory, group)) continue;
      const stray = strayMember(view, group);
      if (stray !== null) return breach(`group ${number} ${stray}`, [{ space: 1, at: IommuGroup.domain.address(memory, group) }]);
    }
    return null;
  },
});
