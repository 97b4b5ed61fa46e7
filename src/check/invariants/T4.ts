/**
 * T4: an address for DMA is good from map to unmap. It reaches the page that it was given for, is given back to what it came from, and
 * outlives no change of the T bit that changes its meaning.
 */
import type { Cursor } from '#hostmem/history';
import { ownedAccess, tdiMoved } from '../../hardware/events.ts';
import { TdiState } from '../../hardware/tdisp.ts';
import { HandleMapped, HandleUnmapped } from '../../kernel/events.ts';
import { Backend } from '../../kernel/guest-dma.ts';
import { addressText, frameText } from '../access-words.ts';
import { functionText, ridOf } from '../dma-words.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

interface Handle {
  readonly function: string;
  readonly address: number;
  readonly frame: number;
  readonly backend: number;
  /** The interface has gone into RUN or out of it, and the address holds on one side alone. */
  isStale: boolean;
}

/** What is mapped, by requester id and address. */
type Handles = Map<number, Map<number, Handle>>;

const backends: Readonly<Record<number, string>> = {
  [Backend.BOUNCE]: 'the bounce pages of T=0', [Backend.TRANSLATED]: 'the trusted table of T=1', [Backend.ONE_TABLE]: 'the one table',
  [Backend.SHARED_HALF]: 'the shared half', [Backend.PRIVATE_HALF]: 'the private half',
};

export default invariant<Handles>({
  id: 'T4',
  claim: 'an address for DMA reaches its own page from map to unmap, goes back to what it came from, and outlives no switch of T that changes its meaning',
  events: [HandleMapped, HandleUnmapped, tdiMoved, ownedAccess],
  start: () => new Map(),
  step(handles, event) {
    const rid = ridOf(event);
    const own = handles.get(rid) ?? new Map<number, Handle>();
    handles.set(rid, own);
    if (event.kind === HandleMapped.kind) own.set(HandleMapped.get.address(event), handleOf(event));
    else if (event.kind === HandleUnmapped.kind) return unmapped(own, event);
    else if (event.kind === tdiMoved.kind) flip(own, event);
    else return reached(own, event);
    return null;
  },
  inspect(handles, _view, atRest) {
    if (!atRest) return null;
    for (const own of handles.values()) {
      for (const handle of own.values()) {
        if (handle.isStale) return breach(`the address ${addressText(handle.address)} of ${handle.function}, from ${backends[handle.backend]}, outlives a switch of T`);
      }
    }
    return null;
  },
});

const handleOf = (event: Cursor): Handle => ({
  function: functionText(event),
  address: HandleMapped.get.address(event),
  frame: HandleMapped.get.frame(event),
  backend: HandleMapped.get.backend(event),
  isStale: false,
});

function unmapped(own: Map<number, Handle>, event: Cursor): Breach | null {
  const address = HandleUnmapped.get.address(event);
  const handle = own.get(address);
  if (handle === undefined) return breach(`${functionText(event)} unmaps ${addressText(address)}, which is not mapped`);
  own.delete(address);
  const backend = HandleUnmapped.get.backend(event);
  if (backend === handle.backend) return null;
  return breach(`${functionText(event)} mapped ${addressText(address)} from ${backends[handle.backend]} and gives it back to ${backends[backend]}`);
}

function flip(own: Map<number, Handle>, event: Cursor): void {
  const ran = tdiMoved.get.before(event) === TdiState.RUN;
  if (ran === (tdiMoved.get.after(event) === TdiState.RUN)) return;
  for (const handle of own.values()) if (handle.backend === Backend.BOUNCE || handle.backend === Backend.TRANSLATED) handle.isStale = true;
}

function reached(own: Map<number, Handle>, event: Cursor): Breach | null {
  const handle = own.get(ownedAccess.get.iovaLow(event) >>> 0);
  if (handle === undefined || handle.frame === ownedAccess.get.frame(event)) return null;
  return breach(`the address ${addressText(handle.address)} of ${functionText(event)} was given for frame 0x${handle.frame.toString(16)} and reaches ${frameText(event)}`);
}
