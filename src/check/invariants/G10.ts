/**
 * G10, idle is blocked: the wish of seed 000. Linux 7.2 does not promise it: a device without a driver is on its group's default domain, which is
 * all of memory under iommu=pt. Designs that promise it are judged by it (`judgedBy`).
 */
import { dma } from '../../hardware/events.ts';
import { DriverProbes, DriverRefused, DriverUnbound, GroupClaimed, GroupReleased } from '../../kernel/events.ts';
import { KernelDriver } from '../../kernel/iommu-group.ts';
import { frameText, functionText, iovaText, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

interface Use {
  /** Drivers that do DMA through the default domain, from the start of their probe, per group. */
  readonly drivers: Map<number, number>;
  /** Groups that a user owns. */
  readonly owned: Set<number>;
}

export default invariant<Use>({
  id: 'G10',
  claim: 'a device of a group with neither a kernel driver nor an owner completes no DMA',
  events: [DriverProbes, DriverRefused, DriverUnbound, GroupClaimed, GroupReleased, dma],
  start(view) {
    const drivers = new Map<number, number>();
    for (const group of view.beginning.drivenGroups) add(drivers, group, 1);
    return { drivers, owned: new Set([...view.builtOwners].filter(([, owner]) => owner >= 0).map(([group]) => group)) };
  },
  step({ drivers, owned }, event, view) {
    switch (event.kind) {
      case GroupClaimed.kind: owned.add(GroupClaimed.get.group(event)); return null;
      case GroupReleased.kind: owned.delete(GroupReleased.get.group(event)); return null;
      case DriverProbes.kind:
        if (DriverProbes.get.driver(event) === KernelDriver.DEFAULT_DOMAIN) add(drivers, DriverProbes.get.group(event), 1);
        return null;
      case DriverRefused.kind:
      case DriverUnbound.kind:
        if (DriverUnbound.get.driver(event) === KernelDriver.DEFAULT_DOMAIN) add(drivers, DriverUnbound.get.group(event), -1);
        return null;
      default: {
        if (dma.get.frame(event) === 0) return null;
        const group = view.groupOf(ridOf(event));
        if (owned.has(group) || (drivers.get(group) ?? 0) > 0) return null;
        return breach(`a DMA of ${functionText(event)} at ${iovaText(event)} reached ${frameText(event)}, and its group ${group} has neither driver nor owner`);
      }
    }
  },
});

function add(counts: Map<number, number>, group: number, change: number): void {
  counts.set(group, (counts.get(group) ?? 0) + change);
}
