/** T5: what a guest's allocator has free, it may hand out for secrets. */
import { guestOf, Visibility, visibilityOf } from '#hostmem/frames';
import { GuestPageFreed } from '../../kernel/events.ts';
import { confidentialGuests } from '../confidential-records.ts';
import { breach, invariant } from '../invariant.ts';

export default invariant<null>({
  id: 'T5',
  claim: 'the free pages of a confidential guest are private to it: one whose conversion failed never comes back',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [GuestPageFreed],
  inspect(_state, view) {
    for (const { guest, free } of confidentialGuests(view)) {
      for (const { page, frame } of free) {
        const word = view.host.frames.peekVisibility(frame);
        if (visibilityOf(word) === Visibility.PRIVATE && guestOf(word) === guest) continue;
        const state = visibilityOf(word) === Visibility.PENDING ? 'on its way' : 'one that the host can see';
        return breach(`page ${page} (frame 0x${frame.toString(16)}) is free in guest ${guest}, and is ${state}`);
      }
    }
    return null;
  },
});
