/**
 * What the steps of sleeping actors have touched: an actor that sleeps has been seen to execute its next step, so that all of it is known, what
 * follows the announced operation too, and it is woken by whatever conflicts with any of that.
 *
 * On the board, as a stack beside the stack of choices: who is put to sleep at a choice has its footprint behind those of the choices
 * before, and deeper ones are dropped then. A footprint is pairs of a word's key and an effect, then the actor and how many pairs there are. A step with
 * alternatives in it has one for each of them; all but the first say that one more lies before them.
 */
import { Head, NodeWord, type Board } from './board.ts';
import { Accesses, conflict, effect, Effect } from './dependence.ts';
import { nodeWord, setNodeWord } from './stack.ts';

const access = new Accesses();
/** Stands for every word: a step that broke a schedule depends on all that comes before it. */
const anyWord = -4;
/** Beside the actor: the footprint before this one is of the same step. */
const continued = 1 << 8;

/** A step of the last schedule: its node, the last node within it, where its entries in the trace end, and whether the schedule broke off there. */
export interface Done {
  readonly step: number;
  readonly last: number;
  readonly end: number;
  readonly brokeOff: boolean;
}

/** A new choice: nobody is put to sleep here yet. */
export function inheritFootprints(board: Board, depth: number): void {
  setNodeWord(board, depth, NodeWord.footprints, depth === 0 ? 0 : nodeWord(board, depth - 1, NodeWord.footprints));
}

/** Notes what a step has done as belonging to node `at`: its own, or that of alternatives within it. False where there is no room. */
export function noteFootprint(board: Board, at: number, { step, last, end, brokeOff }: Done): boolean {
  const before = nodeWord(board, last, NodeWord.footprints);
  const mark = before > nodeWord(board, step, NodeWord.footprints) ? continued : 0;
  const first = nodeWord(board, step, NodeWord.entry);
  if (before + 2 * (end - first) + 4 > board.footprintCapacity) return false;
  let top = before;
  if (brokeOff) top = put(board, top, anyWord, Effect.WRITES);
  else for (let entry = first; entry < end; entry++) if (isVisible(board, entry)) top = put(board, top, access.key, effect(access.op));
  board.set(board.footprintAt(top), nodeWord(board, step, NodeWord.chosen) | mark);
  board.set(board.footprintAt(top + 1), top - before);
  setNodeWord(board, at, NodeWord.footprints, top + 2);
  return true;
}

const isVisible = (board: Board, entry: number): boolean => access.turn(board, entry) && effect(access.op) !== Effect.NONE;

function put(board: Board, at: number, key: number, kind: Effect): number {
  board.set(board.footprintAt(at), key);
  board.set(board.footprintAt(at + 1), kind);
  return at + 2;
}

/** Whether what was executed since node `depth` wakes an actor that slept there. */
export function isWoken(board: Board, depth: number, actor: number): boolean {
  let top = nodeWord(board, depth, NodeWord.footprints);
  for (let isFound = false; top > 0; ) {
    const who = board.get(board.footprintAt(top - 2));
    const first = top - 2 - board.get(board.footprintAt(top - 1));
    if (isFound || (who & ~continued) === actor) {
      if (isMet(board, first, top - 2, nodeWord(board, depth, NodeWord.entry))) return true;
      if ((who & continued) === 0) return false;
      isFound = true;
    }
    top = first;
  }
  return true;
}

/** Whether an entry of the trace from `from` on conflicts with one of the pairs. */
function isMet(board: Board, first: number, end: number, from: number): boolean {
  for (let entry = from; entry < board.get(Head.traceLength); entry++) {
    if (!isVisible(board, entry)) continue;
    for (let pair = first; pair < end; pair += 2) {
      const key = board.get(board.footprintAt(pair));
      if (key === anyWord || (key === access.key && conflict(board.get(board.footprintAt(pair + 1)) as Effect, effect(access.op)))) return true;
    }
  }
  return false;
}
