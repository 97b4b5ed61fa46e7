/** T6: between its two roles a page is nobody's, and no cache remembers the old one when the new one begins. */
import { Visibility } from '#hostmem/frames';
import type { Cursor } from '#hostmem/history';
import { ownedAccess } from '../../hardware/events.ts';
import { CachesFlushed, PageBlocked, PageConverted } from '../../kernel/events.ts';
import { frameText } from '../access-words.ts';
import { functionText } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** Of each page that is blocked, by frame: for which values of T the caches were flushed since, a bit each. */
type Converting = Map<number, number>;

export default invariant<Converting>({
  id: 'T6',
  claim: 'while a page is converted nobody reaches it once caches were flushed, and the caches of both contexts are flushed before it has its new role',
  events: [PageBlocked, CachesFlushed, PageConverted, ownedAccess],
  start: () => new Map(),
  step(converting, event) {
    if (event.kind === PageBlocked.kind) converting.set(PageBlocked.get.frame(event), 0);
    else if (event.kind === CachesFlushed.kind) {
      const frame = CachesFlushed.get.frame(event);
      const flushed = converting.get(frame);
      if (flushed !== undefined) converting.set(frame, flushed | (1 << CachesFlushed.get.trusted(event)));
    } else if (event.kind === PageConverted.kind) return converted(converting, event);
    else return reached(converting, event);
    return null;
  },
});

function converted(converting: Converting, event: Cursor): Breach | null {
  const frame = PageConverted.get.frame(event);
  const flushed = converting.get(frame) ?? 0;
  converting.delete(frame);
  if (flushed === 3) return null;
  const role = PageConverted.get.visibility(event) === Visibility.PRIVATE ? 'private' : 'shared';
  const missing = flushed === 0 ? 'T=0 and T=1' : (flushed & 1) === 0 ? 'T=0' : 'T=1';
  return breach(`frame 0x${frame.toString(16)} is ${role} from now on, and caches of ${missing} were not flushed since it was blocked`);
}

/** What was in flight when the page was blocked may still end until the flush of its context has waited for it. */
function reached(converting: Converting, event: Cursor): Breach | null {
  const flushed = converting.get(ownedAccess.get.frame(event));
  const trusted = ownedAccess.get.trusted(event);
  if (flushed === undefined || (flushed & (1 << trusted)) === 0) return null;
  return breach(`a DMA of ${functionText(event)} with T=${trusted} reached ${frameText(event)} while the page was between two roles`);
}
