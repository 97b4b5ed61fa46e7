/**
 * T7, bounce pages: what a bounce page held for one transfer leaves it in no other. A device may write less than a page, and the whole of it is copied back: so it has to begin
 * with what the page holds.
 */
import { BounceCopied, BounceFilled } from '../../kernel/events.ts';
import { breach, invariant } from '../invariant.ts';

/** Whose data each bounce page has, both by frame. */
type Carried = Map<number, number>;

const hex = (frame: number): string => `0x${frame.toString(16)}`;

export default invariant<Carried>({
  id: 'T7',
  claim: 'a bounce page gives nothing to a page that it held for another one, or that nobody put there',
  events: [BounceFilled, BounceCopied],
  start: () => new Map(),
  step(carried, event) {
    const [bounce, frame] = [BounceFilled.get.bounce(event), BounceFilled.get.frame(event)];
    if (event.kind === BounceFilled.kind) {
      carried.set(bounce, frame);
      return null;
    }
    const before = carried.get(bounce);
    if (before === frame) return null;
    const what = before === undefined ? 'nobody has put there' : `it held for frame ${hex(before)}`;
    return breach(`the bounce page in frame ${hex(bounce)} is copied to frame ${hex(frame)} with what ${what}`);
  },
});
