/**
 * O2, no use after free. Who follows a reference to what was freed is seen at that access, in every run, by the generation in the
 * reference; here, at rest, what would be followed next.
 */
import { NULL, type Ref } from '#hostmem/object';
import { IommuDomain } from '../../drivers/domain.ts';
import { GroupPasid } from '../../kernel/group-pasid.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommuGroup } from '../../kernel/iommu-group.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { IommufdObject, Kind } from '../../kernel/objects.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { bodies, contexts, domainsOf, groupPasids, iommufdGroups, nameOf } from '../records.ts';
import { isLive } from '../references.ts';
import type { View } from '../view.ts';

export default invariant<null>({
  id: 'O2',
  claim: 'nobody follows a reference to an object that was freed, and at rest no group, context or IOAS keeps one',
  events: [],
  start: () => null,
  step: () => null,
  inspect(_state, view) {
    for (const group of view.groups()) {
      const found = ofGroup(view, group);
      if (found !== null) return found;
    }
    for (const iommufd of contexts(view)) {
      const found = ofContext(view, iommufd);
      if (found !== null) return found;
    }
    return null;
  },
});

function ofGroup(view: View, group: Ref<'IommuGroup'>): Breach | null {
  const memory = view.host.kernel;
  const number = IommuGroup.number.peek(memory, group);
  const dead = groupPasids(view, group).find((at) => !isLive(memory, IommuDomain, GroupPasid.domain.peek(memory, at)));
  if (dead !== undefined) return breach(`PASID ${GroupPasid.pasid.peek(memory, dead)} of group ${number} goes through a domain that was freed`);
  if (isLive(memory, IommuDomain, IommuGroup.domain.peek(memory, group))) return null;
  const word = { space: 1, at: IommuGroup.domain.address(memory, group) } as const;
  return breach(`group ${number} translates through a domain that was freed`, [word]);
}

function ofContext(view: View, iommufd: Ref<'Iommufd'>): Breach | null {
  const memory = view.host.kernel;
  for (const group of iommufdGroups(view, iommufd)) {
    const hwpt = IommufdGroup.hwpt.peek(memory, group);
    const number = IommuGroup.number.peek(memory, IommufdGroup.group.peek(memory, group));
    if (hwpt !== NULL && !isLive(memory, Hwpt, hwpt)) return breach(`group ${number} is recorded on an HWPT that was freed`);
  }
  for (const ioas of bodies<'Ioas'>(view, iommufd, Kind.IOAS)) {
    const dead = domainsOf(view, ioas).some((domain) => !isLive(memory, IommuDomain, domain));
    if (dead) return breach(`${nameOf(view, Ioas.header.peek(memory, ioas))} fills a domain that was freed`);
  }
  for (const hwpt of bodies<'Hwpt'>(view, iommufd, Kind.HWPT)) {
    const header = Hwpt.header.peek(memory, hwpt);
    if (!isLive(memory, IommufdObject, header) || !isLive(memory, IommuDomain, Hwpt.domain.peek(memory, hwpt))) return breach('an HWPT has a domain that was freed');
  }
  return null;
}
