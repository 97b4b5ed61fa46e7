/** D4, the two-domain rule: while a group or a PASID of it moves, a DMA of a member reaches the old domain or the new one, or nothing. */
import type { Cursor } from '#hostmem/history';
import { dma, pasidDma } from '../../hardware/events.ts';
import { rootText } from '../../hardware/nested-line.ts';
import { GroupMoved, GroupMoves, PasidMoved, PasidMoves, UNTRANSLATED } from '../../kernel/events.ts';
import { dmaPasid, functionText, ridOf } from '../dma-words.ts';
import { breach, invariant } from '../invariant.ts';

/** A slot's domain over a time: from the stamp where it became possible to the one where it ceased to be. */
interface Stay {
  readonly root: number;
  readonly from: number;
  until: number;
}

/** Stays by slot, oldest first. A transaction in flight holds moves up, so that it spans few of them: old ones are dropped. */
type Stays = Map<string, Stay[]>;

const keptStays = 64;

export default invariant<Stays>({
  id: 'D4',
  claim: 'while a group, or a PASID of it, is attached, replaced or detached, a DMA of a member reaches only the old or the new domain, or is blocked',
  events: [GroupMoves, GroupMoved, PasidMoves, PasidMoved, dma, pasidDma],
  start: () => new Map(),
  step(stays, event, view) {
    if (event.kind === GroupMoves.kind) return move(stays, event.stamp, slotName(GroupMoves.get.group(event), null), GroupMoves.get.oldRoot(event), GroupMoves.get.newRoot(event));
    if (event.kind === GroupMoved.kind) return settle(stays, event.stamp, slotName(GroupMoved.get.group(event), null), GroupMoved.get.root(event));
    if (event.kind === PasidMoves.kind) return move(stays, event.stamp, pasidSlot(event), PasidMoves.get.oldRoot(event), PasidMoves.get.newRoot(event));
    if (event.kind === PasidMoved.kind) return settle(stays, event.stamp, pasidSlot(event), PasidMoved.get.root(event));
    if (dma.get.frame(event) === 0) return null;
    const root = dma.get.root(event) === 0 ? UNTRANSLATED : dma.get.root(event);
    const known = stays.get(slotName(view.groupOf(ridOf(event)), dmaPasid(event)));
    if (known === undefined) return null;
    const begin = dma.get.begin(event);
    if (known.some((stay) => stay.root === root && stay.from <= event.stamp && stay.until >= begin)) return null;
    return breach(
      `a DMA of ${functionText(event)} reached ${nameOf(root)}, ` +
        `which its group had at no time between the DMA's start and its end (it had ${describe(known, begin)})`,
    );
  },
});

/** What moves as one: the requests of a group without PASID, or with one. */
const slotName = (group: number, pasid: number | null): string => (pasid === null ? `${group}` : `${group}.${pasid}`);
/** Of a `pasid moves` or `pasid moved`, which have both in the same places. */
const pasidSlot = (event: Cursor): string => slotName(PasidMoves.get.group(event), PasidMoves.get.pasid(event));

/** From here on old and new are both possible. Nothing is known of a slot before its first move. */
function move(stays: Stays, stamp: number, slot: string, oldRoot: number, newRoot: number): null {
  let known = stays.get(slot);
  if (known === undefined) stays.set(slot, (known = [{ root: oldRoot, from: 0, until: Infinity }]));
  known.push({ root: newRoot, from: stamp, until: Infinity });
  return null;
}

/** Only `root` is possible from here on. */
function settle(stays: Stays, stamp: number, slot: string, root: number): null {
  const known = stays.get(slot) ?? [];
  let current: Stay | undefined;
  for (const stay of known) if (stay.root === root && stay.until === Infinity) current = stay;
  for (const stay of known) if (stay !== current && stay.until === Infinity) stay.until = stamp;
  if (known.length <= keptStays) return null;
  known.splice(0, known.length - keptStays / 2);
  // What a slot keeps through many moves that fail is old and in force.
  if (current !== undefined && !known.includes(current)) known.unshift(current);
  return null;
}

function describe(known: readonly Stay[], begin: number): string {
  return known.filter(({ until }) => until >= begin).map(({ root }) => nameOf(root)).join(', ') || 'none';
}

function nameOf(root: number): string {
  if (root === 0) return 'blocking';
  return root === UNTRANSLATED ? 'memory untranslated' : `the domain with ${rootText(root)}`;
}
