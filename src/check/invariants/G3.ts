/** G3, single owner: a group is a user's or the kernel's; the user's translates through the user's domains, and goes back when none is attached. */
import { NULL, type Ref } from '#hostmem/object';
import { DriverBound, DriverUnbound, GroupClaimed, GroupReleased } from '../../kernel/events.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { IommuGroup, KernelDriver } from '../../kernel/iommu-group.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { Kind } from '../../kernel/objects.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { bodies, contexts, iommufdGroups, membersAttached, pasidsAttached } from '../records.ts';
import type { View } from '../view.ts';

interface Use {
  /** Drivers that do DMA through the default domain, per group. */
  readonly drivers: Map<number, number>;
  /** Groups that a user owns. */
  readonly owned: Set<number>;
  /** The group that was released with the last event. */
  released: number;
}

export default invariant<Use>({
  id: 'G3',
  claim: 'a group has one owner or drivers of the kernel, never both; an owned one is blocked or on its owner\'s domains; a released one has nothing attached',
  events: [GroupClaimed, GroupReleased, DriverBound, DriverUnbound],
  start: (view) => ({ drivers: counted(view.beginning.drivenGroups), owned: new Set([...view.builtOwners].filter(([, owner]) => owner >= 0).map(([group]) => group)), released: -1 }),
  step(use, event) {
    use.released = -1;
    switch (event.kind) {
      case GroupClaimed.kind: {
        const group = GroupClaimed.get.group(event);
        if (use.owned.has(group)) return breach(`group ${group} was claimed and has an owner`);
        use.owned.add(group);
        return both(use, group);
      }
      case GroupReleased.kind:
        use.released = GroupReleased.get.group(event);
        use.owned.delete(use.released);
        return null;
      case DriverBound.kind:
        if (DriverBound.get.driver(event) !== KernelDriver.DEFAULT_DOMAIN) return null;
        add(use.drivers, DriverBound.get.group(event), 1);
        return both(use, DriverBound.get.group(event));
      default:
        if (DriverUnbound.get.driver(event) === KernelDriver.DEFAULT_DOMAIN) add(use.drivers, DriverUnbound.get.group(event), -1);
        return null;
    }
  },
  inspectAfter: [GroupClaimed, GroupReleased],
  inspect({ released }, view) {
    const memory = view.host.kernel;
    for (const group of view.groups()) {
      const number = IommuGroup.number.peek(memory, group);
      const found = number === released ? leftAttached(view, group) : strayFromOwner(view, group);
      if (found !== null) return found;
    }
    return null;
  },
});

function counted(groups: readonly number[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const group of groups) add(found, group, 1);
  return found;
}

function add(counts: Map<number, number>, group: number, change: number): void {
  counts.set(group, (counts.get(group) ?? 0) + change);
}

function both({ drivers, owned }: Use, group: number): Breach | null {
  const bound = drivers.get(group) ?? 0;
  if (bound === 0 || !owned.has(group)) return null;
  return breach(`group ${group} belongs to a user, and ${bound} kernel driver${bound === 1 ? ' does' : 's do'} DMA through its default domain`);
}

function leftAttached(view: View, core: Ref<'IommuGroup'>): Breach | null {
  const memory = view.host.kernel;
  const groups = contexts(view).flatMap((iommufd) => iommufdGroups(view, iommufd)).filter((group) => IommufdGroup.group.peek(memory, group) === core);
  const left = groups.some((group) => membersAttached(view, group).length + pasidsAttached(view, group).length > 0);
  return left ? breach(`group ${IommuGroup.number.peek(memory, core)} was released, but a member is attached`) : null;
}

function strayFromOwner(view: View, group: Ref<'IommuGroup'>): Breach | null {
  const memory = view.host.kernel;
  const owner = IommuGroup.owner.peek(memory, group) as Ref<'Iommufd'>;
  const domain = IommuGroup.domain.peek(memory, group);
  if (owner === NULL || IommuGroup.mutex.isHeld(memory, group) || domain === IommuGroup.blockingDomain.peek(memory, group)) return null;
  // One that is attached first and published later is no object yet.
  if (domain !== IommuGroup.defaultDomain.peek(memory, group) && !isAnothers(view, owner, domain)) return null;
  return breach(`group ${IommuGroup.number.peek(memory, group)} has an owner, but translates through a domain that is not the owner's`, [
    { space: 1, at: IommuGroup.domain.address(memory, group) },
  ]);
}

const isAnothers = (view: View, owner: Ref<'Iommufd'>, domain: Ref<'IommuDomain'>): boolean =>
  contexts(view).some((iommufd) => iommufd !== owner && bodies<'Hwpt'>(view, iommufd, Kind.HWPT).some((hwpt) => Hwpt.domain.peek(view.host.kernel, hwpt) === domain));
