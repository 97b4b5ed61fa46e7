/** C5, tag hygiene: a domain id, and a PASID of processes, is free only when no cache holds anything under it. */
import { DomainIdReturned } from '../../drivers/events.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { PasidFreed } from '../../kernel/events.ts';
import { firstProcessPasid, isPasidFree, lastProcessPasid } from '../../kernel/process-pasid.ts';
import { cachedDomainIds, cachedPasids, isNumberTaken, unitsOf } from '../cached.ts';
import { breach, invariant } from '../invariant.ts';
import { pasidsInForce } from '../records.ts';
import type { View } from '../view.ts';

export default invariant<null>({
  id: 'C5',
  claim: 'a domain id may be given to another domain, and a PASID to another process, only when no cache holds an entry or a translation under it',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [DomainIdReturned, PasidFreed],
  inspect(_state, view) {
    for (const unit of unitsOf(view)) {
      const stale = [...cachedDomainIds(view, unit)].find((id) => !isNumberTaken(view, unit, id));
      if (stale !== undefined) return breach(`domain id ${stale & 0xffff} of unit ${IommuUnit.number.peek(view.host.kernel, unit)} is free, but its caches hold something under it`);
    }
    const stale = stalePasid(view);
    return stale === undefined ? null : breach(`PASID ${stale} may be given to another process, but a cache holds something under it`);
  },
});

/** A number for processes that none has, and that no user picked for itself, under which something is cached. */
function stalePasid(view: View): number | undefined {
  const kept = [...cachedPasids(view)].filter((pasid) => pasid >= firstProcessPasid && pasid <= lastProcessPasid);
  const free = kept.filter((pasid) => isPasidFree(view.host.kernel, view.root, pasid));
  return free.length === 0 ? undefined : free.find((pasid) => !pasidsInForce(view).some((one) => one.pasid === pasid));
}
