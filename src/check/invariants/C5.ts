/** C5, tag hygiene: a domain id is free only when no cache holds anything under it. */
import type { Ref } from '#hostmem/object';
import { DomainIdReturned } from '../../drivers/events.ts';
import { firstDomainId, isDomainIdTaken } from '../../drivers/vtd/unit-state.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { cachedDomainIds, unitsOf } from '../cached.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'C5',
  claim: 'a domain id may be given to another domain only when no cache of the unit holds an entry or a translation under it',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [DomainIdReturned],
  inspect(_state, view) {
    const kernel = view.host.kernel;
    for (const unit of unitsOf(view)) {
      const state = IommuUnit.driverData.peek(kernel, unit) as Ref<'VtdUnitState'>;
      const stale = [...cachedDomainIds(view, unit)].find((id) => id >= firstDomainId && !isDomainIdTaken(kernel, state, id));
      if (stale !== undefined) return breach(`domain id ${stale} of unit ${IommuUnit.number.peek(kernel, unit)} is free, but its caches hold something under it`);
    }
    return null;
  },
});
