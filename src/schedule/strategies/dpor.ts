/**
 * Dynamic partial order reduction (Flanagan and Godefroid, POPL 2005; source sets by Abdulla et al., POPL 2014) with sleep
 * sets: one schedule of every class of those in which dependent operations come in one order.
 *
 * All actors are started first, so that everybody's next operation is known: a start is no choice. What an actor tells before its
 * first point, that its first call has begun, so comes before all else: classes in which a first call begins behind
 * another's end, which `icb` has, are not among these. A schedule that turns out to be of a class seen before runs on to its end and is not counted.
 */
import { BlockWord, Head, NodeWord, Status, type Board } from '../board.ts';
import { Accesses, conflict, effect, isWhole, wordKey } from '../dependence.ts';
import { RaceAnalysis } from '../races.ts';
import { branch, clearStack, deeper, depthOf, isAlternatives, lowest, maskOf, nodeWord, prefixOf, pushAlternatives, rewind, setNodeWord } from '../stack.ts';
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

  /** Independent of everything: its alternatives are tried wherever it comes up first, and nobody is woken by it. */
  choose(board, count) {
    if (board.get(Head.redundant) !== 0) return 0;
    const depth = deeper(board);
    if (depth < 0) return 0;
    setNodeWord(board, depth, NodeWord.entry, board.get(Head.traceLength));
    if (depth >= prefixOf(board)) pushAlternatives(board, depth, count, depth === 0 ? 0 : stillAsleep(board, depth - 1));
    return nodeWord(board, depth, NodeWord.chosen);
  },

  proceed(board) {
    if (!isWhole(board)) board.set(Head.overflowed, 1);
    if (board.get(Head.overflowed) !== 0) return false;
    const depth = depthOf(board) - board.get(Head.redundant);
    analysis.findRaces(board, depth, prefixOf(board));
    let end = analysis.end;
    let isLast = true;
    for (let at = depth - 1; at >= 0; at--) {
      const next = isAlternatives(board, at) ? untried(board, at) : awake(board, at, end, isLast && analysis.isCutShort(board));
      if (!isAlternatives(board, at)) {
        end = nodeWord(board, at, NodeWord.entry);
        isLast = false;
      }
      if (next === 0) continue;
      branch(board, at, lowest(next));
      return true;
    }
    return false;
  },
};

/** The alternatives that are left. */
function untried(board: Board, depth: number): number {
  const done = nodeWord(board, depth, NodeWord.done) | (1 << nodeWord(board, depth, NodeWord.chosen));
  setNodeWord(board, depth, NodeWord.done, done);
  return nodeWord(board, depth, NodeWord.backtrack) & ~done;
}

/** The actors that are to be tried yet, now that all has been seen that begins with the chosen one. */
function awake(board: Board, depth: number, end: number, brokeOff: boolean): number {
  retire(board, depth, end, brokeOff);
  return nodeWord(board, depth, NodeWord.backtrack) & ~nodeWord(board, depth, NodeWord.done) & ~nodeWord(board, depth, NodeWord.sleep);
}

function firstUnborn(board: Board): number {
  for (let actor = 0; actor < board.actors; actor++) if (board.get(board.block(actor) + BlockWord.status) === Status.NOT_STARTED) return actor;
  return -1;
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
  return chosen;
}

/** Those asleep at a choice that what was executed then has not woken. */
function stillAsleep(board: Board, depth: number): number {
  let asleep = nodeWord(board, depth, NodeWord.sleep);
  if (!isAlternatives(board, depth)) asleep &= ~(1 << nodeWord(board, depth, NodeWord.chosen));
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
