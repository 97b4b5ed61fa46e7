/** G1, uniform group: every member's table entry is the one of the group's domain. */
import { GroupMoved } from '../../kernel/events.ts';
import { IommuGroup, PciDevice } from '../../kernel/iommu-group.ts';
import { DomainKind, IommuDomain } from '../../drivers/domain.ts';
import { installedRoot, passesThrough } from '../../hardware/installed-root.ts';
import { PciFunction } from '../../hardware/function.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'G1',
  claim: 'outside the group lock, every member of a group translates through the domain of the group',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [GroupMoved],
  inspect(_state, view) {
    const memory = view.host.kernel;
    for (const group of view.groups()) {
      if (IommuGroup.mutex.isHeld(memory, group)) continue;
      const domain = IommuGroup.domain.peek(memory, group);
      const isIdentity = IommuDomain.kind.peek(memory, domain) === DomainKind.IDENTITY;
      const expected = isIdentity ? passesThrough : IommuDomain.root.peek(memory, domain);
      for (const device of view.members(group)) {
        const pciFunction = PciDevice.function.peek(memory, device);
        const installed = installedRoot(view.host, pciFunction);
        if (installed === expected) continue;
        return breach(
          `group ${IommuGroup.number.peek(memory, group)} is on ${rootName(expected)}, but ` +
            `function ${PciFunction.rid.peek(memory, pciFunction).toString(16)} translates through ${rootName(installed)}`,
          [{ space: 1, at: IommuGroup.domain.address(memory, group) }],
        );
      }
    }
    return null;
  },
});

function rootName(root: number): string {
  if (root === 0) return 'blocking';
  return root === passesThrough ? 'identity' : `the domain with root frame 0x${root.toString(16)}`;
}
