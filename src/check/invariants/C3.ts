/** C3, completion: who flushes goes on when hardware has carried out what it was told. */
import { InvalidationQueued, SubmitReturned, SubmitTimedOut } from '../../drivers/events.ts';
import { invalidated } from '../../hardware/events.ts';
import { breach, invariant } from '../invariant.ts';

interface Queues {
  /** Descriptors that were queued and not carried out, by unit and slot. */
  readonly pending: Set<string>;
  /** Those that each actor's running submission queued. */
  readonly own: Map<number, string[]>;
}

const name = (unit: number, slot: number): string => `${unit}.${slot}`;

export default invariant<Queues>({
  id: 'C3',
  claim: 'a flush returns only after every invalidation that it queued was carried out and acknowledged, or says that it was not',
  events: [InvalidationQueued, invalidated, SubmitReturned, SubmitTimedOut],
  start: () => ({ pending: new Set(), own: new Map() }),
  step({ pending, own }, event) {
    if (event.kind === InvalidationQueued.kind) {
      const queued = name(InvalidationQueued.get.unit(event), InvalidationQueued.get.slot(event));
      pending.add(queued);
      own.set(event.actor, [...(own.get(event.actor) ?? []), queued]);
    } else if (event.kind === invalidated.kind) pending.delete(name(invalidated.get.unit(event), invalidated.get.slot(event)));
    else {
      const all = own.get(event.actor) ?? [];
      const ofUnit = `${SubmitReturned.get.unit(event)}.`;
      const late = all.find((queued) => queued.startsWith(ofUnit) && pending.has(queued));
      own.set(event.actor, all.filter((queued) => !queued.startsWith(ofUnit)));
      if (event.kind === SubmitTimedOut.kind) {
        for (const queued of all) if (queued.startsWith(ofUnit)) pending.delete(queued);
        return null;
      }
      if (late !== undefined) return breach(`a flush returned while the invalidation in slot ${late.split('.')[1]} of its queue was not carried out yet`);
    }
    return null;
  },
});
