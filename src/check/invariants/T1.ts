/** T1: what is private is out of reach of T = 0, cached translations included. */
import { Visibility, visibilityOf } from '#hostmem/frames';
import { ownedAccess } from '../../hardware/events.ts';
import { frameText, iovaText } from '../access-words.ts';
import { functionText } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'T1',
  claim: 'a request with T = 0 never reads or writes a private page, through whatever cache it comes',
  events: [ownedAccess],
  start: () => null,
  step(_state, event) {
    if (ownedAccess.get.trusted(event) !== 0 || visibilityOf(ownedAccess.get.visibility(event)) !== Visibility.PRIVATE) return null;
    return breach(`a DMA of ${functionText(event)} with T=0 through ${iovaText(event)} reached ${frameText(event)}, a private page`);
  },
});
