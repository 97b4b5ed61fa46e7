/** T3: an interface has one owner, from bind to unbind, and nobody acts for it outside. */
import { GuestRequested, TdiBound, TdiUnbound } from '../../drivers/tsm/events.ts';
import { GroupReleased } from '../../kernel/events.ts';
import { functionText, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

/** Interfaces that are bound: the guest, by requester id. */
type Bound = Map<number, number>;

export default invariant<Bound>({
  id: 'T3',
  claim: 'a device interface is bound to at most one guest, no request is carried out for it while it is bound to none, and it is unbound before its group is given back to the host',
  events: [TdiBound, TdiUnbound, GuestRequested, GroupReleased],
  start: () => new Map(),
  step(bound, event, view) {
    if (event.kind === GroupReleased.kind) {
      const group = GroupReleased.get.group(event);
      const kept = [...bound.keys()].find((rid) => view.groupOf(rid) === group);
      return kept === undefined ? null : breach(`group ${group} goes back to the host while an interface of it is bound to guest ${bound.get(kept)}`);
    }
    const rid = ridOf(event);
    const owner = bound.get(rid);
    if (event.kind === TdiUnbound.kind) bound.delete(rid);
    else if (event.kind === GuestRequested.kind) {
      if (owner === undefined) return breach(`a guest's request is carried out on ${functionText(event)}, whose interface is bound to nobody`);
    } else if (owner !== undefined) {
      return breach(`the interface of ${functionText(event)} is bound to guest ${TdiBound.get.guest(event)} while it is bound to guest ${owner}`);
    } else bound.set(rid, TdiBound.get.guest(event));
    return null;
  },
});
