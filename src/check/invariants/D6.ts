/** D6, blocked means blocked: an owned group without attachment completes no DMA, and no function that is being reset. */
import { dma, pasidDma } from '../../hardware/events.ts';
import { GroupBlocked, GroupReleased, ResetEnds, ResetPrepared, VfioCall, VfioCalled, VfioReturned } from '../../kernel/events.ts';
import { frameText, functionText, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

interface Blocking {
  /** Groups that were blocked and have not been attached since. */
  readonly blocked: Set<number>;
  /** Attaches (and replaces) that have begun and not returned, per group: the claim is silent during one. */
  readonly attaching: Map<number, number>;
  /** Requester ids of functions that are being reset. */
  readonly resetting: Set<number>;
}

const isAttach = (what: number): boolean => what === VfioCall.ATTACH || what === VfioCall.REPLACE;

export default invariant<Blocking>({
  id: 'D6',
  claim: 'from the claim of a group, or the detach of its last member, until the next attach starts, no DMA of a member without a PASID completes; from the start of a function\'s reset to its end, none of it',
  events: [GroupBlocked, GroupReleased, ResetPrepared, ResetEnds, VfioCalled, VfioReturned, dma, pasidDma],
  start: (view) => ({ blocked: new Set(view.beginning.blockedGroups), attaching: new Map(), resetting: new Set() }),
  step({ blocked, attaching, resetting }, event, view) {
    if (event.kind === GroupBlocked.kind) blocked.add(GroupBlocked.get.group(event));
    else if (event.kind === GroupReleased.kind) blocked.delete(GroupReleased.get.group(event));
    else if (event.kind === ResetPrepared.kind) resetting.add(ResetPrepared.get.function(event));
    else if (event.kind === ResetEnds.kind) resetting.delete(ResetEnds.get.function(event));
    else if (event.kind === VfioCalled.kind) {
      if (isAttach(VfioCalled.get.what(event))) count(attaching, VfioCalled.get.group(event), 1);
    } else if (event.kind === VfioReturned.kind) {
      if (!isAttach(VfioReturned.get.what(event))) return null;
      count(attaching, VfioReturned.get.group(event), -1);
      // One that failed has attached nothing: what was blocked before it is blocked after it.
      if (VfioReturned.get.errno(event) === 0) blocked.delete(VfioReturned.get.group(event));
    } else if ((event.kind === dma.kind ? dma : pasidDma).get.frame(event) !== 0) {
      const group = view.groupOf(ridOf(event));
      if (resetting.has(ridOf(event))) return breach(`a DMA of ${functionText(event)} reached ${frameText(event)} while the function was being reset`);
      // What a PASID reaches has nothing to do with what the requests without one do.
      if (event.kind === pasidDma.kind || !blocked.has(group) || (attaching.get(group) ?? 0) > 0) return null;
      return breach(`a DMA of ${functionText(event)} reached ${frameText(event)} while its group ${group} was blocked`);
    }
    return null;
  },
});

function count(attaching: Map<number, number>, group: number, change: number): void {
  attaching.set(group, (attaching.get(group) ?? 0) + change);
}
