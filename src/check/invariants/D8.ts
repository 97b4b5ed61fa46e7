/** D8, permission: a DMA does what its mapping grants, also one that is translated by a cache which knew a mapping that granted more. */
import { Access } from '#hostmem/page-table-format';
import { dma, DmaFlags, pasidDma } from '../../hardware/events.ts';
import { AreaGone, AreaPlaced, DomainJoined, DomainLeft } from '../../kernel/events.ts';
import { frameText, functionText, iovaPage, iovaText, isDma, pageNumber } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

/** A mapping of an IOAS; `gone` is when it was taken out. */
interface Granted {
  readonly first: number;
  readonly end: number;
  readonly permissions: number;
  gone: number;
}

interface Permissions {
  readonly ioasOfRoot: Map<number, string>;
  readonly granted: Map<string, Granted[]>;
  /** What was gone by then is not remembered. */
  forgotten: number;
}

/** Mappings of an IOAS that are gone and remembered. */
const remembered = 64;

export default invariant<Permissions>({
  id: 'D8',
  claim: 'no DMA writes where every mapping between its start and its end grants reads alone, nor reads where they grant writes alone',
  events: [AreaPlaced, AreaGone, DomainJoined, DomainLeft, dma, pasidDma],
  start(view) {
    const state: Permissions = { ioasOfRoot: new Map(view.beginning.ioasOfRoot), granted: new Map(), forgotten: -1 };
    for (const { ioas, first, pages, permissions } of view.beginning.mappings) grantedIn(state, ioas).push({ first, end: first + pages, permissions, gone: Infinity });
    return state;
  },
  step(state, event) {
    if (isDma(event)) {
      const ioas = state.ioasOfRoot.get(dma.get.root(event));
      if (dma.get.frame(event) === 0 || ioas === undefined || dma.get.begin(event) <= state.forgotten) return null;
      const needed = (dma.get.function(event) & DmaFlags.WRITE) === 0 ? Access.READ : Access.WRITE;
      const page = iovaPage(event);
      const met = grantedIn(state, ioas).filter((one) => page >= one.first && page < one.end && one.gone >= dma.get.begin(event));
      if (met.length === 0 || met.some(({ permissions }) => (permissions & needed) !== 0)) return null;
      const did = needed === Access.WRITE ? 'wrote' : 'read';
      return breach(`${functionText(event)} ${did} ${frameText(event)} through ${iovaText(event)}, whose mapping does not grant that`);
    }
    if (event.kind === DomainLeft.kind) state.ioasOfRoot.delete(DomainLeft.get.root(event));
    else if (event.kind === DomainJoined.kind) state.ioasOfRoot.set(DomainJoined.get.root(event), `${DomainJoined.get.process(event)}.${DomainJoined.get.ioas(event)}`);
    else {
      const { get } = event.kind === AreaPlaced.kind ? AreaPlaced : AreaGone;
      const ioas = `${get.process(event)}.${get.ioas(event)}`;
      const first = pageNumber(get.iovaHigh(event), get.iovaLow(event));
      if (event.kind === AreaPlaced.kind) grantedIn(state, ioas).push({ first, end: first + get.pages(event), permissions: AreaPlaced.get.permissions(event), gone: Infinity });
      else take(state, ioas, first, event.stamp);
    }
    return null;
  },
});

function grantedIn({ granted }: Permissions, ioas: string): Granted[] {
  let found = granted.get(ioas);
  if (found === undefined) granted.set(ioas, (found = []));
  return found;
}

/** Live mappings of an IOAS do not overlap: the page says which it is. */
function take(state: Permissions, ioas: string, page: number, stamp: number): void {
  const all = grantedIn(state, ioas);
  for (const one of all) if (one.gone === Infinity && page >= one.first && page < one.end) one.gone = stamp;
  const over = all.filter(({ gone }) => gone !== Infinity);
  if (over.length <= remembered) return;
  const oldest = over.toSorted((one, other) => one.gone - other.gone).slice(0, remembered / 2);
  state.forgotten = oldest.at(-1)!.gone;
  state.granted.set(ioas, all.filter((one) => !oldest.includes(one)));
}
