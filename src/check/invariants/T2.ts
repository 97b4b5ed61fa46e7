/** T2: T = 1 is for an interface that runs, and for the guest that it is bound to. */
import { guestOf, Visibility, visibilityOf } from '#hostmem/frames';
import type { Cursor } from '#hostmem/history';
import { TdiBound, TdiUnbound } from '../../drivers/tsm/events.ts';
import { dma, ownedAccess, tdiMoved } from '../../hardware/events.ts';
import { TdiState } from '../../hardware/tdisp.ts';
import { frameText, iovaText } from '../access-words.ts';
import { functionText, ridOf } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** What is known of an interface; of a new one, that it is unlocked and bound to nobody. */
interface Interface {
  guest: number;
  runs: boolean;
  /** Stamp of the last event at which it ceased to run. */
  ranUntil: number;
  /** Whether the access that is told of next, as a `dma`, had T = 1. */
  trusted: boolean;
}

type Interfaces = Map<number, Interface>;

export default invariant<Interfaces>({
  id: 'T2',
  claim: 'a request with T = 1 reaches private pages of the guest alone that the interface is bound to, pages it has accepted, and is sent in RUN alone',
  events: [TdiBound, TdiUnbound, tdiMoved, ownedAccess, dma],
  start: () => new Map(),
  step(interfaces, event) {
    const one = interfaces.get(ridOf(event)) ?? { guest: 0, runs: false, ranUntil: 0, trusted: false };
    interfaces.set(ridOf(event), one);
    if (event.kind === TdiBound.kind) one.guest = TdiBound.get.guest(event);
    else if (event.kind === TdiUnbound.kind) one.guest = 0;
    else if (event.kind === tdiMoved.kind) move(one, event);
    else if (event.kind === ownedAccess.kind) return reached(one, event);
    else return sent(one, event);
    return null;
  },
});

function move(one: Interface, event: Cursor): void {
  if (tdiMoved.get.before(event) === TdiState.RUN) one.ranUntil = event.stamp;
  one.runs = tdiMoved.get.after(event) === TdiState.RUN;
}

function reached(one: Interface, event: Cursor): Breach | null {
  one.trusted = ownedAccess.get.trusted(event) !== 0;
  const word = ownedAccess.get.visibility(event);
  if (!one.trusted || visibilityOf(word) !== Visibility.PRIVATE || guestOf(word) === one.guest) return null;
  const whose = one.guest === 0 ? 'is bound to nobody' : `is bound to guest ${one.guest}`;
  return breach(`a DMA of ${functionText(event)} with T=1 through ${iovaText(event)} reached ${frameText(event)}, private to guest ${guestOf(word)}; the interface ${whose}`);
}

/** What was on its way when the interface ceased to run was sent in RUN. */
function sent(one: Interface, event: Cursor): Breach | null {
  const isTrusted = one.trusted && dma.get.frame(event) !== 0;
  one.trusted = false;
  if (!isTrusted || one.runs || one.ranUntil > dma.get.begin(event)) return null;
  return breach(`a DMA of ${functionText(event)} with T=1 was sent by an interface that does not run`);
}
