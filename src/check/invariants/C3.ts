/** C3, completion: who flushes goes on when hardware has carried out what it was told. */
import { InvalidationQueued, SubmitReturned, SubmitTimedOut } from '../../drivers/events.ts';
import { invalidated } from '../../hardware/events.ts';
import { breach, invariant } from '../invariant.ts';

interface Queues {
  /** When descriptors were queued that are not carried out, by unit and slot. */
  readonly pending: Map<string, number>;
  /** Those that each actor's running submission queued. Who is slow to return may find its slot used again: it is the stamp that tells. */
  readonly own: Map<number, { readonly slot: string; readonly stamp: number }[]>;
}

const name = (unit: number, slot: number): string => `${unit}.${slot}`;

export default invariant<Queues>({
  id: 'C3',
  claim: 'a flush returns only after every invalidation that it queued was carried out and acknowledged, or says that it was not',
  events: [InvalidationQueued, invalidated, SubmitReturned, SubmitTimedOut],
  start: () => ({ pending: new Map(), own: new Map() }),
  step({ pending, own }, event) {
    if (event.kind === InvalidationQueued.kind) {
      const queued = name(InvalidationQueued.get.unit(event), InvalidationQueued.get.slot(event));
      pending.set(queued, event.stamp);
      own.set(event.actor, [...(own.get(event.actor) ?? []), { slot: queued, stamp: event.stamp }]);
    } else if (event.kind === invalidated.kind) pending.delete(name(invalidated.get.unit(event), invalidated.get.slot(event)));
    else {
      const all = own.get(event.actor) ?? [];
      const ofUnit = `${SubmitReturned.get.unit(event)}.`;
      const late = all.find(({ slot, stamp }) => slot.startsWith(ofUnit) && pending.get(slot) === stamp);
      own.set(event.actor, all.filter(({ slot }) => !slot.startsWith(ofUnit)));
      if (event.kind === SubmitTimedOut.kind) {
        for (const { slot, stamp } of all) if (slot.startsWith(ofUnit) && pending.get(slot) === stamp) pending.delete(slot);
        return null;
      }
      if (late !== undefined) return breach(`a flush returned while the invalidation in slot ${late.slot.split('.')[1]} of its queue was not carried out yet`);
    }
    return null;
  },
});
