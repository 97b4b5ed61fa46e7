/**
 * P2, mapping persistence: a mapping stays until somebody unmaps it who can mean it. An unmap goes through its range in ascending order
 * with its locks dropped in between; what is mapped ahead of it while it runs it may find and remove, as if it had begun later. Where it
 * has been already, everything is somebody else's.
 */
import type { Cursor } from '#hostmem/history';
import { AreaPlaced, AreaTaken, MapCalled, UnmapCalled, UnmapReturned } from '../../kernel/events.ts';
import { breach, invariant, type Breach } from '../invariant.ts';

/** An unmap in progress. */
interface Unmap {
  readonly ioas: string;
  /** The stamp of its beginning. */
  readonly began: number;
  /** The first iova behind what it has removed. */
  passed: number;
}

interface Mappings {
  /** When the call began that made the mapping, by IOAS and iova. */
  readonly began: Map<string, Map<number, number>>;
  /** When each actor's last map began. */
  readonly maps: Map<number, number>;
  /** By actor. */
  readonly unmaps: Map<number, Unmap>;
}

export default invariant<Mappings>({
  id: 'P2',
  claim: 'a mapping is removed only by an unmap that began after it, or that had not yet come to its place when it was made',
  events: [MapCalled, AreaPlaced, UnmapCalled, AreaTaken, UnmapReturned],
  start: () => ({ began: new Map(), maps: new Map(), unmaps: new Map() }),
  step(state, event) {
    const { actor, stamp } = event;
    switch (event.kind) {
      case MapCalled.kind:
        state.maps.set(actor, stamp);
        return null;
      case AreaPlaced.kind:
        place(state, `${AreaPlaced.get.process(event)}.${AreaPlaced.get.ioas(event)}`, join(AreaPlaced.get.iovaHigh(event), AreaPlaced.get.iovaLow(event)), state.maps.get(actor) ?? stamp);
        return null;
      case UnmapCalled.kind:
        state.unmaps.set(actor, { ioas: `${UnmapCalled.get.process(event)}.${UnmapCalled.get.ioas(event)}`, began: stamp, passed: 0 });
        return null;
      case UnmapReturned.kind:
        state.unmaps.delete(actor);
        return null;
      default:
        return take(state, event);
    }
  },
});

function place({ began }: Mappings, ioas: string, iova: number, when: number): void {
  let known = began.get(ioas);
  if (known === undefined) began.set(ioas, (known = new Map()));
  known.set(iova, when);
}

function take({ began, unmaps }: Mappings, event: Cursor): Breach | null {
  const ioas = `${AreaTaken.get.process(event)}.${AreaTaken.get.ioas(event)}`;
  const iova = join(AreaTaken.get.iovaHigh(event), AreaTaken.get.iovaLow(event));
  const when = began.get(ioas)?.get(iova) ?? 0;
  began.get(ioas)?.delete(iova);
  const unmap = unmaps.get(event.actor);
  if (unmap?.ioas !== ioas) return null;
  if (when > unmap.began && iova < unmap.passed) {
    return breach(`an unmap removed the mapping at iova 0x${iova.toString(16)}, which began after it and where it had been already`);
  }
  unmap.passed = Math.max(unmap.passed, iova + AreaTaken.get.pages(event) * 4096);
  return null;
}

/** Exact below 2^53. */
const join = (high: number, low: number): number => (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
