/** G5, reserved regions: each attached device's are in the IOAS that it is attached to, and in no other. */
import { NULL, type Ref } from '#hostmem/object';
import { VfioReturned } from '../../kernel/events.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { msiWindow } from '../../kernel/iommufd-reserved.ts';
import { IommufdObject, Kind } from '../../kernel/objects.ts';
import { high, low } from '../../kernel/u64.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { contexts, iommufdGroups, membersAttached, objects } from '../records.ts';
import type { View } from '../view.ts';

export default invariant<null>({
  id: 'G5',
  claim: 'outside the group lock, an attached device has its reserved regions in its IOAS, apart from all mappings, and in no other IOAS',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [VfioReturned],
  inspect(_state, view) {
    const memory = view.host.kernel;
    for (const iommufd of contexts(view)) {
      const spaces = objects(view, iommufd)
        .filter((target) => IommufdObject.kind.peek(memory, target) === Kind.IOAS)
        .map((target) => IommufdObject.body.peek(memory, target) as Ref<'Ioas'>);
      if (spaces.some((ioas) => Ioas.iovaRwsem.isHeldForWriting(memory, ioas))) continue;
      for (const group of iommufdGroups(view, iommufd)) {
        const found = IommufdGroup.lock.isHeld(memory, group) ? null : compare(view, group, spaces);
        if (found !== null) return found;
      }
    }
    return null;
  },
});

function compare(view: View, group: Ref<'IommufdGroup'>, spaces: readonly Ref<'Ioas'>[]): Breach | null {
  const memory = view.host.kernel;
  const hwpt = IommufdGroup.hwpt.peek(memory, group);
  if (hwpt === NULL) return null;
  const own = Hwpt.ioas.peek(memory, hwpt);
  for (const device of membersAttached(view, group)) {
    for (const ioas of spaces) {
      const has = reservesFor(view, ioas, device);
      if (has === (ioas === own)) continue;
      const where = `IOAS ${IommufdObject.id.peek(memory, Ioas.header.peek(memory, ioas))}`;
      return breach(`${where} ${has ? 'still reserves' : 'does not reserve'} the interrupt window of an attached device`);
    }
  }
  return meets(view, own) ? breach('a mapping lies in the reserved window of an attached device') : null;
}

function reservesFor(view: View, ioas: Ref<'Ioas'>, device: number): boolean {
  const memory = view.host.kernel;
  for (let node = Ioas.reserved.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.reserved.next(memory, ioas, node, 0, 0, -1, -1)) {
    if (Ioas.reserved.value(memory, node) === device) return true;
  }
  return false;
}

const meets = (view: View, ioas: Ref<'Ioas'>): boolean =>
  Ioas.areas.first(view.host.kernel, ioas, high(msiWindow.start), low(msiWindow.start), high(msiWindow.last), low(msiWindow.last)) !== NULL;
