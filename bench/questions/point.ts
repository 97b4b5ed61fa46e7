/**
 * What a point costs: `off`, in a free run, against the same dependent loads from the bare array; `kept`, in a controlled run in
 * which the actor keeps the baton: announced, decided and recorded, and nobody switched to. Then the same by kind of access. The
 * actor is the bench's own thread; the strategy is a replay without switches, which asks at no point but a lock's. What
 * handing the baton on costs is asked by `explore`.
 */
import { poke, read } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import { mutex } from '#hostmem/locks';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { Baton } from '#src/schedule/baton';
import { BlockWord, Board, Head, Kind, State } from '#src/schedule/board';
import { Checkpoint } from '#src/schedule/checkpoint';
import { Strategies } from '#src/schedule/strategy';
import type { Question } from '../question.ts';

const Cell = object('BenchBatonCell', { lock: mutex, word: u32, guarded: u32.under('lock') });

const strategies = await Strategies.load();

/** Thrown where the schedule has ended: there is no commander who could send the actor home. */
const leave = new Error('the bench is over');

/** Links of the chain that the dependent loads follow: bytes from one to the next, and how many. */
const linkBytes = 64;
const links = 64;
const linkLabel = label('BenchLink');

interface Place {
  readonly host: Host;
  readonly cell: Ref<'BenchBatonCell'>;
}

function createPlace(): Place {
  const host = Host.create(65_536, 65_536);
  for (let link = 0; link < links; link++) poke(host.ram, link * linkBytes, ((link + 1) % links) * linkBytes);
  return { host, cell: Cell.create(host.kernel) };
}

function chaseBare({ host: { ram } }: Place, count: number): number {
  const { words } = ram;
  let at = 0;
  for (let i = 0; i < count; i++) at = words[at >>> 2]!;
  return at;
}

function chase({ host: { ram } }: Place, count: number): number {
  let at = 0;
  for (let i = 0; i < count; i++) at = read(ram, at, linkLabel);
  return at;
}

/** An instance of its own: as in a thread of a free run, its code has never met a controller. */
const free = (await import(`${import.meta.resolve('#hostmem/atomics')}?free`)) as typeof import('#hostmem/atomics');

function chaseFreely({ host: { ram } }: Place, count: number): number {
  let at = 0;
  for (let i = 0; i < count; i++) at = free.read(ram, at, linkLabel);
  return at;
}

function createBaton(board: Board, host: Host): Baton {
  const ended = (failed: boolean): void => {
    throw failed ? new Error(board.text(Head.message)) : leave;
  };
  const hooks = { judge: () => null, reset() {}, ended };
  return new Baton({ board, actor: 0, host, checkpoint: new Checkpoint(host, Checkpoint.take(host)), engines: [], names: ['bench'], strategies, hooks });
}

/** Plays one schedule whose only actor runs `body`. */
function play(board: Board, baton: Baton, body: () => void): void {
  board.set(Head.kind, Kind.REPLAY);
  board.set(Head.times, 1);
  board.set(Head.budget, 0x7fffffff);
  board.set(Head.serial, 1);
  board.set(Head.state, State.COMMAND);
  board.pass(0);
  try {
    baton.run(body);
  } catch (thrown) {
    if (thrown !== leave) throw thrown;
  }
}

/** Starts the schedule's count and hash afresh, so that every call ends with the same hash and none with the budget. */
function restart(board: Board, asksAlways: boolean): void {
  board.set(Head.step, 0);
  board.set(Head.hashLow, 0);
  board.set(Head.hashHigh, 0);
  board.set(board.block(0) + BlockWord.askAt, asksAlways ? -1 : 0);
}

function readAll({ host: { kernel }, cell }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + Cell.word.read(kernel, cell)) | 0;
  return sum;
}

function readGuarded({ host: { kernel }, cell }: Place, count: number): number {
  let sum = 0;
  Cell.lock.acquire(kernel, cell);
  for (let i = 0; i < count; i++) sum = (sum + Cell.guarded.read(kernel, cell)) | 0;
  Cell.lock.release(kernel, cell);
  return sum;
}

function addAll({ host: { kernel }, cell }: Place, count: number): number {
  for (let i = 0; i < count; i++) Cell.word.add(kernel, cell, 1);
  return Cell.word.add(kernel, cell, -count);
}

function lockAll({ host: { kernel }, cell }: Place, count: number): number {
  for (let i = 0; i < count; i++) {
    Cell.lock.acquire(kernel, cell);
    Cell.lock.release(kernel, cell);
  }
  return count;
}

export default {
  asks: 'what does a point cost when no controller is there, and when the actor keeps the baton?',
  prepare(tiny) {
    const operations = tiny ? 64 : 2048;
    const [open, held] = [createPlace(), createPlace()];
    const board = Board.create({ actors: 1, engines: 0 });
    const baton = createBaton(board, held.host);
    const controlled = (loop: (place: Place, count: number) => number, asksAlways: boolean) => (): number => {
      restart(board, asksAlways);
      return (loop(held, operations) + board.get(Head.hashLow)) | 0;
    };
    const bare = 'loads from the bare array';
    const [field, add, lock, guarded] = ['free, read', 'free, add', 'free, lock and unlock', 'free, guarded read'];
    return {
      within: (measure) => play(board, baton, measure),
      rows: [
        { name: bare, operations, call: () => chaseBare(open, operations) },
        { name: 'off', operations, against: bare, call: () => chaseFreely(open, operations) },
        { name: 'kept', operations, against: bare, call: controlled(chase, false) },
        { name: field, operations, call: () => readAll(open, operations) },
        { name: 'controlled, read', operations, against: field, call: controlled(readAll, false) },
        { name: 'controlled and asked, read', operations, against: field, call: controlled(readAll, true) },
        { name: guarded, operations, call: () => readGuarded(open, operations) },
        { name: 'controlled, guarded read', operations, against: guarded, call: controlled(readGuarded, false) },
        { name: add, operations, call: () => addAll(open, operations) },
        { name: 'controlled, add', operations, against: add, call: controlled(addAll, false) },
        { name: lock, operations, call: () => lockAll(open, operations) },
        { name: 'controlled, lock and unlock', operations, against: lock, call: controlled(lockAll, false) },
      ],
    };
  },
} satisfies Question;
