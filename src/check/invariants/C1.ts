/** C1, coverage: who may hold a translation of a domain is on the domain's list, and so is reached by its invalidations. */
import { dma, pasidDma } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import { rootText } from '../../hardware/nested-line.ts';
import { cachedTranslations, isCovered } from '../cached.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'C1',
  claim: "a cache that holds a translation of a domain, of a unit or of a device, is on the domain's list of cache tags",
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [dma, pasidDma],
  inspect(_state, view) {
    const stray = cachedTranslations(view).find((one) => !isCovered(view, one));
    if (stray === undefined) return null;
    const rid = stray.function === 0 ? -1 : PciFunction.rid.peek(view.host.kernel, stray.function);
    const cache = rid < 0 ? "the unit's IOTLB" : `the device TLB of function ${((rid >>> 3) & 31).toString(16).padStart(2, '0')}.${rid & 7}`;
    return breach(`${cache} holds a translation of the domain with ${rootText(stray.root)}, whose list of cache tags does not have it`);
  },
});
