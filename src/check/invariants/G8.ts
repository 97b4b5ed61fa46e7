/** G8, reset: a function that is being reset is parked in blocking, and is on what its group has *now* when the reset is over. */
import type { Ref } from '#hostmem/object';
import { PciFunction } from '../../hardware/function.ts';
import { installedRoot } from '../../hardware/installed-root.ts';
import { GroupMoved, ResetEnded, ResetPrepared } from '../../kernel/events.ts';
import { IommuGroup, PciDevice } from '../../kernel/iommu-group.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { addressText, strayMember } from '../records.ts';
import type { View } from '../view.ts';

/** The group of the last event: it is judged although its mutex is held. */
interface JustMoved {
  group: number;
}

export default invariant<JustMoved>({
  id: 'G8',
  claim: 'outside the group lock, a group counts its members in reset; they are blocked, and all others are on the domain that it has',
  events: [GroupMoved, ResetPrepared, ResetEnded],
  start: () => ({ group: -1 }),
  step(justMoved, event) {
    const { get } = event.kind === GroupMoved.kind ? GroupMoved : event.kind === ResetPrepared.kind ? ResetPrepared : ResetEnded;
    justMoved.group = get.group(event);
    return null;
  },
  inspectAfter: [GroupMoved, ResetPrepared, ResetEnded],
  inspect(justMoved, view) {
    const moved = justMoved.group;
    justMoved.group = -1;
    for (const group of view.groups()) {
      if (IommuGroup.number.peek(view.host.kernel, group) !== moved && IommuGroup.mutex.isHeld(view.host.kernel, group)) continue;
      const found = judge(view, group);
      if (found !== null) return found;
    }
    return null;
  },
});

function judge(view: View, group: Ref<'IommuGroup'>): Breach | null {
  const memory = view.host.kernel;
  const number = IommuGroup.number.peek(memory, group);
  const parked = view.members(group).filter((device) => PciDevice.blocked.peek(memory, device) !== 0);
  const count = IommuGroup.recoveryCount.peek(memory, group);
  if (count !== parked.length) return breach(`group ${number} counts ${count} members in reset, and ${parked.length} are parked`);
  for (const device of parked) {
    const pciFunction = PciDevice.function.peek(memory, device);
    if (installedRoot(view.host, pciFunction) === 0) continue;
    return breach(`function ${addressText(PciFunction.rid.peek(memory, pciFunction))} of group ${number} is being reset, and is not blocked`);
  }
  const stray = strayMember(view, group);
  return stray === null ? null : breach(`group ${number} ${stray}`);
}
