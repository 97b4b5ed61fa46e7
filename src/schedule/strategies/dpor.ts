/**
 * Dynamic partial order reduction (Flanagan and Godefroid, POPL 2005; source sets by Abdulla et al., POPL 2014) with sleep
 * sets: one schedule of every class of those in which dependent operations come in one order.
 *
 * A step is an operation with all that follows up to the actor's next one. To start is a step without an operation: it depends on others by what the
 * actor tells before its first point, such as that a call has begun. A schedule that turns out to be of a class seen before runs on to its end and is not counted.
 */
import { BlockWord, Head, NodeWord, Status, type Board } from '../board.ts';
import { isWhole } from '../dependence.ts';
import { inheritFootprints, isWoken, noteFootprint, type Done } from '../footprints.ts';
import { RaceAnalysis } from '../races.ts';
import { branch, clearStack, deeper, depthOf, isAlternatives, lowest, maskOf, nodeWord, prefixOf, pushAlternatives, rewind, setNodeWord } from '../stack.ts';
import { withoutParameter, type Choice, type Exhaustive } from '../strategy.ts';

const analysis = new RaceAnalysis();

const dpor: Exhaustive = {
  bound: null,

  begin(board, index) {
    if (index === 0) clearStack(board);
    rewind(board);
  },

  pick(board, choice) {
    if (board.get(Head.redundant) !== 0) return choice.byDefault;
    const depth = deeper(board);
    if (depth < 0) return choice.byDefault;
    setNodeWord(board, depth, NodeWord.entry, board.get(Head.traceLength));
    if (depth < prefixOf(board)) return nodeWord(board, depth, NodeWord.chosen);
    return push(board, depth, choice);
  },

  /** Independent of everything: its alternatives are tried wherever it comes up first, and nobody is woken by it. */
  choose(board, count) {
    if (board.get(Head.redundant) !== 0) return 0;
    const depth = deeper(board);
    if (depth < 0) return 0;
    setNodeWord(board, depth, NodeWord.entry, board.get(Head.traceLength));
    if (depth >= prefixOf(board)) {
      pushAlternatives(board, depth, count, stillAsleep(board, depth - 1));
      inheritFootprints(board, depth);
    }
    return nodeWord(board, depth, NodeWord.chosen);
  },

  proceed(board) {
    if (!isWhole(board)) board.set(Head.overflowed, 1);
    if (board.get(Head.overflowed) !== 0) return false;
    const depth = depthOf(board) - board.get(Head.redundant);
    analysis.findRaces(board, depth, prefixOf(board));
    let { end } = analysis;
    let brokeOff = analysis.isCutShort(board);
    for (let last = depth - 1; last >= 0; ) {
      let step = last;
      while (isAlternatives(board, step)) step--;
      const done: Done = { step, last, end, brokeOff };
      for (let at = last; at >= step; at--) {
        const next = at === step ? awake(board, done) : untried(board, at, done);
        if (next === 0) continue;
        branch(board, at, lowest(next));
        return true;
      }
      end = nodeWord(board, step, NodeWord.entry);
      last = step - 1;
      brokeOff = false;
    }
    return false;
  },
};

/** The alternatives that are left; what the one that was taken did belongs to the step, as what the others will do. */
function untried(board: Board, depth: number, done: Done): number {
  const left = finish(board, depth);
  // Unknown, it could not be put to sleep.
  if (left !== 0 && !noteFootprint(board, depth, done)) board.set(Head.overflowed, 1);
  return left;
}

/** The actors that are to be tried yet, now that all has been seen that begins with the chosen one: elsewhere that one sleeps. */
function awake(board: Board, done: Done): number {
  const { step } = done;
  const left = finish(board, step);
  if (noteFootprint(board, step, done)) setNodeWord(board, step, NodeWord.sleep, nodeWord(board, step, NodeWord.sleep) | (1 << nodeWord(board, step, NodeWord.chosen)));
  return left & ~nodeWord(board, step, NodeWord.sleep);
}

/** What is left to try at a choice. */
function finish(board: Board, depth: number): number {
  const done = nodeWord(board, depth, NodeWord.done) | (1 << nodeWord(board, depth, NodeWord.chosen));
  setNodeWord(board, depth, NodeWord.done, done);
  return nodeWord(board, depth, NodeWord.backtrack) & ~done;
}

/** A new choice: whoever the default policy takes, unless it is asleep. */
function push(board: Board, depth: number, choice: Choice): number {
  const enabled = maskOf(choice);
  const sleep = depth === 0 ? 0 : stillAsleep(board, depth - 1);
  const able = enabled & ~sleep;
  if (able === 0) board.set(Head.redundant, 1);
  const chosen = able === 0 || (able & (1 << choice.byDefault)) !== 0 ? choice.byDefault : lowest(able);
  setNodeWord(board, depth, NodeWord.alternatives, 0);
  setNodeWord(board, depth, NodeWord.enabled, enabled);
  setNodeWord(board, depth, NodeWord.backtrack, able === 0 ? 0 : 1 << chosen);
  setNodeWord(board, depth, NodeWord.done, 0);
  setNodeWord(board, depth, NodeWord.sleep, sleep);
  setNodeWord(board, depth, NodeWord.chosen, chosen);
  setNodeWord(board, depth, NodeWord.alive, aliveMask(board));
  inheritFootprints(board, depth);
  return chosen;
}

/** Those asleep at a choice that what was executed then has not woken. */
function stillAsleep(board: Board, depth: number): number {
  let asleep = nodeWord(board, depth, NodeWord.sleep);
  if (!isAlternatives(board, depth)) asleep &= ~(1 << nodeWord(board, depth, NodeWord.chosen));
  for (let rest = asleep; rest !== 0; rest &= rest - 1) if (isWoken(board, depth, lowest(rest))) asleep &= ~(1 << lowest(rest));
  return asleep;
}

function aliveMask(board: Board): number {
  let mask = 0;
  for (let actor = 0; actor < board.actors; actor++) if (board.get(board.block(actor) + BlockWord.status) === Status.RUNNABLE) mask |= 1 << actor;
  return mask;
}

export default withoutParameter('dpor', dpor);
