/** T8: the TDISP state machine, as a device goes through it, and the requests that a guest may make of it. */
import type { Cursor } from '#hostmem/history';
import { GuestRequested } from '../../drivers/tsm/events.ts';
import { RequestScope } from '../../drivers/tsm/link-tsm.ts';
import { configurationWritten, ownedAccess, tdiMoved } from '../../hardware/events.ts';
import { Mover, TdiState } from '../../hardware/tdisp.ts';
import { functionText, ridOf } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

interface Interface {
  state: number;
  /** A register that TDISP locks was written while it was locked, and the interface has not gone to ERROR since. */
  mustFail: boolean;
}

type Interfaces = Map<number, Interface>;

const names = ['CONFIG_UNLOCKED', 'CONFIG_LOCKED', 'RUN', 'ERROR'];

export default invariant<Interfaces>({
  id: 'T8',
  claim: 'a device interface goes UNLOCKED, LOCKED, RUN and back, to ERROR when its configuration changes under lock, and guests ask for reports and changes of state alone',
  events: [tdiMoved, configurationWritten, GuestRequested, ownedAccess],
  start: () => new Map(),
  step(interfaces, event) {
    const one = interfaces.get(ridOf(event)) ?? { state: TdiState.UNLOCKED, mustFail: false };
    interfaces.set(ridOf(event), one);
    if (event.kind === tdiMoved.kind) return moved(one, event);
    if (event.kind === configurationWritten.kind) one.mustFail = one.state === TdiState.LOCKED || one.state === TdiState.RUN;
    else if (event.kind === GuestRequested.kind && GuestRequested.get.scope(event) > RequestScope.STATE_CHANGE)
      return breach(`a guest's request of scope ${GuestRequested.get.scope(event)} is carried out on ${functionText(event)}`);
    else if (event.kind === ownedAccess.kind && one.mustFail && ownedAccess.get.trusted(event) !== 0)
      return breach(`${functionText(event)} goes on with T=1 after its configuration has changed under lock`);
    return null;
  },
  inspect(interfaces, _view, atRest) {
    if (!atRest) return null;
    const forgiving = [...interfaces.values()].find(({ mustFail }) => mustFail);
    return forgiving === undefined ? null : breach(`the configuration of a locked interface has changed, and it is in ${names[forgiving.state]}`);
  },
});

function moved(one: Interface, event: Cursor): Breach | null {
  const from = tdiMoved.get.before(event);
  const to = tdiMoved.get.after(event);
  one.state = to;
  one.mustFail = false;
  return isStep(from, to, tdiMoved.get.by(event)) ? null : breach(`the interface of ${functionText(event)} went from ${names[from]} to ${names[to]}`);
}

function isStep(from: number, to: number, by: number): boolean {
  if (to === TdiState.ERROR) return by === Mover.DEVICE && (from === TdiState.LOCKED || from === TdiState.RUN);
  if (by !== Mover.TSM) return false;
  return to === TdiState.UNLOCKED || (to === TdiState.LOCKED && from === TdiState.UNLOCKED) || (to === TdiState.RUN && from === TdiState.LOCKED);
}
