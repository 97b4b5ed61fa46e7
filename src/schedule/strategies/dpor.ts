/**
 * Dynamic partial order reduction (Flanagan and Godefroid, POPL 2005; source sets by Abdulla et al., POPL 2014) with sleep
 * sets: one schedule of every class of those in which dependent operations come in one order.
 *
 * All actors are started first, so that everybody's next operation is known: a start is no choice. A schedule that turns
 * out to be of a class seen before runs on to its end and is not counted.
 */
import { BlockWord, Head, NodeWord, Status, type Board } from '../board.ts';
import { Accesses, conflict, effect, isWhole, wordKey } from '../dependence.ts';
import { RaceAnalysis } from '../races.ts';
import { branch, clearStack, deeper, depthOf, lowest, maskOf, nodeWord, prefixOf, rewind, setNodeWord } from '../stack.ts';
import { withoutParameter, type Choice, type Exhaustive } from '../strategy.ts';

const access = new Accesses();
const analysis = new RaceAnalysis();

const dpor: Exhaustive = {
  bound: null,

  begin(board, index) {
    if (index === 0) clearStack(board);
    rewind(board);
  },

  pick(board, choice) {
    const unborn = firstUnborn(board);
    if (unborn >= 0) return unborn;
    if (board.get(Head.redundant) !== 0) return choice.byDefault;
    const depth = deeper(board);
    if (depth < 0) return choice.byDefault;
    setNodeWord(board, depth, NodeWord.entry, board.get(Head.traceLength));
    if (depth < prefixOf(board)) return nodeWord(board, depth, NodeWord.chosen);
    return push(board, depth, choice);
  },

  proceed(board) {
    if (!isWhole(board)) board.set(Head.overflowed, 1);
    if (board.get(Head.overflowed) !== 0) return false;
    const depth = depthOf(board) - board.get(Head.redundant);
    analysis.findRaces(board, depth, prefixOf(board));
    for (let at = depth - 1, end = analysis.end(depth); at >= 0; end = nodeWord(board, at, NodeWord.entry), at--) {
      retire(board, at, end, at === depth - 1 && analysis.isCutShort(board));
      const next = nodeWord(board, at, NodeWord.backtrack) & ~nodeWord(board, at, NodeWord.done) & ~nodeWord(board, at, NodeWord.sleep);
      if (next === 0) continue;
      branch(board, at, lowest(next));
      return true;
    }
    return false;
  },
};

function firstUnborn(board: Board): number {
  for (let actor = 0; actor < board.actors; actor++) if (board.get(board.block(actor) + BlockWord.status) === Status.NOT_STARTED) return actor;
  return -1;
}

/** A new choice: whoever the default policy takes, unless it is asleep. */
function push(board: Board, depth: number, choice: Choice): number {
  const enabled = maskOf(choice);
  const sleep = depth === 0 ? 0 : stillAsleep(board, depth - 1);
  const awake = enabled & ~sleep;
  if (awake === 0) board.set(Head.redundant, 1);
  const chosen = awake === 0 || (awake & (1 << choice.byDefault)) !== 0 ? choice.byDefault : lowest(awake);
  setNodeWord(board, depth, NodeWord.enabled, enabled);
  setNodeWord(board, depth, NodeWord.backtrack, awake === 0 ? 0 : 1 << chosen);
  setNodeWord(board, depth, NodeWord.done, 0);
  setNodeWord(board, depth, NodeWord.sleep, sleep);
  setNodeWord(board, depth, NodeWord.chosen, chosen);
  setNodeWord(board, depth, NodeWord.alive, aliveMask(board));
  return chosen;
}

/** Those asleep at a choice that what was executed then has not woken. */
function stillAsleep(board: Board, depth: number): number {
  let asleep = nodeWord(board, depth, NodeWord.sleep) & ~(1 << nodeWord(board, depth, NodeWord.chosen));
  for (let entry = nodeWord(board, depth, NodeWord.entry); asleep !== 0 && entry < board.get(Head.traceLength); entry++) {
    if (!access.turn(board, entry)) continue;
    for (let rest = asleep; rest !== 0; rest &= rest - 1) if (isWokenBy(board, lowest(rest))) asleep &= ~(1 << lowest(rest));
  }
  return asleep;
}

/** Whether an actor's pending operation depends on the one that `access` stands at. */
function isWokenBy(board: Board, actor: number): boolean {
  const block = board.block(actor);
  const word = wordKey(board.get(block + BlockWord.space), board.get(block + BlockWord.at));
  return word === access.key && conflict(effect(board.get(block + BlockWord.op)), effect(access.op));
}

function doesMore(board: Board, first: number, end: number): boolean {
  for (let entry = first; entry < end; entry++) if (access.turn(board, entry) && access.isInside) return true;
  return false;
}

function aliveMask(board: Board): number {
  let mask = 0;
  for (let actor = 0; actor < board.actors; actor++) if (board.get(board.block(actor) + BlockWord.status) === Status.RUNNABLE) mask |= 1 << actor;
  return mask;
}

/**
 * All that begins with the chosen one has been seen: elsewhere it sleeps, unless it broke off the schedule there, or did
 * more in its step than what it had announced, by which it would have to be woken.
 */
function retire(board: Board, depth: number, end: number, brokeOff: boolean): void {
  const chosen = 1 << nodeWord(board, depth, NodeWord.chosen);
  setNodeWord(board, depth, NodeWord.done, nodeWord(board, depth, NodeWord.done) | chosen);
  if (!brokeOff && !doesMore(board, nodeWord(board, depth, NodeWord.entry), end)) setNodeWord(board, depth, NodeWord.sleep, nodeWord(board, depth, NodeWord.sleep) | chosen);
}

export default withoutParameter('dpor', dpor);
