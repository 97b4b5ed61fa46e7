/** C5, tag hygiene: a domain id is free only when no cache holds anything under it. */
import { DomainIdReturned } from '../../drivers/events.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { cachedDomainIds, isNumberTaken, unitsOf } from '../cached.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'C5',
  claim: 'a domain id may be given to another domain only when no cache of the unit holds an entry or a translation under it',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [DomainIdReturned],
  inspect(_state, view) {
    for (const unit of unitsOf(view)) {
      const stale = [...cachedDomainIds(view, unit)].find((id) => !isNumberTaken(view, unit, id));
      if (stale !== undefined) return breach(`domain id ${stale & 0xffff} of unit ${IommuUnit.number.peek(view.host.kernel, unit)} is free, but its caches hold something under it`);
    }
    return null;
  },
});
