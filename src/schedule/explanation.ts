/**
 * The words for what the scheduler finds by itself: who waits for what, and who has it.
 */
import { Op, Until } from '#hostmem/atomics';
import { labelText } from '#hostmem/labels';
import { Space } from '#hostmem/memory';
import { BlockWord, Head, Status, type Board } from './board.ts';
import { entryAt, type TraceEntry } from './trace.ts';

/** Names every actor that waits, what for, and the holder of the lock where there is one. */
export function describeDeadlock(board: Board, names: readonly string[]): string {
  const waits: string[] = [];
  for (let actor = 0; actor < board.actors; actor++) {
    if (board.get(board.block(actor) + BlockWord.status) === Status.RUNNABLE) waits.push(describeWait(board, names, actor));
  }
  return `nobody can go on: ${waits.join('; ')}`;
}

export const describeUnwoken = (names: readonly string[], actor: number, waiter: number, label: number): string =>
  `${nameOf(names, actor)} changes ${labelText(label)} to what ${nameOf(names, waiter)} waits for, and does not wake it`;

/** What each one does in a round that comes back for ever, and who waits meanwhile. */
export function describeRound(board: Board, names: readonly string[], round: readonly TraceEntry[]): string {
  const steps = new Set(round.map(({ step }) => step)).size;
  const movers = [...new Set(round.map(({ actor }) => actor))].sort((one, other) => one - other);
  const parts = movers.map((mover) => `${nameOf(names, mover)}: ${describeCircle(round.filter(({ actor }) => actor === mover))}`);
  for (let actor = 0; actor < board.actors; actor++) {
    const isRunnable = board.get(board.block(actor) + BlockWord.status) === Status.RUNNABLE;
    if (isRunnable && !movers.includes(actor)) parts.push(describeWait(board, names, actor));
  }
  return `the same ${steps} ${steps === 1 ? 'step comes' : 'steps come'} round for ever, whoever goes next: ${parts.join('; ')}`;
}

/** Steps of a circle that are told. */
const toldSteps = 8;

/** An actor's own circle within a round, which may hold several. */
function describeCircle(entries: readonly TraceEntry[]): string {
  const texts = entries.map(({ op, labelNumber, space, at, value }) =>
    labelNumber === 0 ? op : `${op} ${describePlace(labelNumber, space, at)}${value === null ? '' : ` = ${value}`}`);
  const own = Array.from({ length: texts.length }, (_, index) => index + 1).find((period) =>
    texts.length % period === 0 && texts.every((text, index) => text === texts[index % period]))!;
  const told = texts.slice(0, Math.min(own, toldSteps)).join(', ');
  return own > toldSteps ? `${told} and ${own - toldSteps} more` : told;
}

/** The first touch of a guarded word without its lock. */
export function describeUnguarded(board: Board, names: readonly string[]): string {
  const place = describePlace(board.get(Head.unguardedLabel), board.get(Head.unguardedSpace), board.get(Head.unguardedAt));
  return `${nameOf(names, board.get(Head.unguardedActor))} touches ${place} without its lock`;
}

/** Where the two runs of a schedule parted: the first step that differs, as each of them had it. */
export function describeDifference(board: Board, names: readonly string[]): string {
  const [before, now] = [board.get(Head.firstLength), board.get(Head.traceLength)];
  const longest = Math.max(before, now);
  for (let entry = Math.max(0, longest - board.get(Head.traceCapacity)); entry < longest; entry++) {
    const first = entry < before ? entryAt(board, board.firstAt(entry)) : null;
    const second = entry < now ? entryAt(board, board.traceAt(entry)) : null;
    if (isSame(first, second)) continue;
    return ` first at step ${(first ?? second)!.step}: ${describeStep(first, names)}, then ${describeStep(second, names)}`;
  }
  return '';
}

const isSame = (one: TraceEntry | null, other: TraceEntry | null): boolean =>
  one?.actor === other?.actor && one?.op === other?.op && one?.space === other?.space && one?.at === other?.at &&
  one?.labelNumber === other?.labelNumber && one?.value === other?.value;

function describeStep(entry: TraceEntry | null, names: readonly string[]): string {
  if (entry === null) return 'nothing';
  const { actor, op, labelNumber, space, at, value } = entry;
  const place = labelNumber === 0 ? '' : ` ${describePlace(labelNumber, space, at)}`;
  return `${nameOf(names, actor)} ${op}${place}${value === null ? '' : `, value ${value}`}`;
}

function describeWait(board: Board, names: readonly string[], actor: number): string {
  const block = board.block(actor);
  const op = board.get(block + BlockWord.op);
  const space = board.get(block + BlockWord.space);
  const at = board.get(block + BlockWord.at);
  const place = describePlace(board.get(block + BlockWord.label), space, at);
  if (op !== Op.LOCK && op !== Op.RLOCK) return `${nameOf(names, actor)} waits until ${place} ${describeCondition(board, block)}`;
  const holders = holdersOf(board, at | space).map((holder) => nameOf(names, holder));
  return `${nameOf(names, actor)} waits for ${place}${holders.length > 0 ? `, held by ${holders.join(' and ')}` : ''}`;
}

function describeCondition(board: Board, block: number): string {
  const mask = board.get(block + BlockWord.mask);
  const is = board.get(block + BlockWord.until) === Until.EQUAL ? 'is' : 'is no longer';
  return `${mask === -1 ? '' : `& 0x${(mask >>> 0).toString(16)} `}${is} ${board.get(block + BlockWord.value)}`;
}

/** `key` is the lock's address with its space in the lowest bits, as the lists of locks have it. */
function holdersOf(board: Board, key: number): number[] {
  const holders: number[] = [];
  for (let actor = 0; actor < board.actors + board.engines; actor++) {
    const block = board.block(actor);
    const count = board.get(block + BlockWord.lockCount);
    const locks = block + BlockWord.locks;
    for (let i = 0; i < count; i++) if (board.get(locks + i) === key) holders.push(actor);
  }
  return holders;
}

const describePlace = (label: number, space: number, at: number): string =>
  `${labelText(label)} (${space === Space.RAM ? 'ram' : 'kernel'} 0x${(at >>> 0).toString(16)})`;

const nameOf = (names: readonly string[], actor: number): string => names[actor] ?? `actor ${actor}`;
