/**
 * Schedules of tiny bodies over real threads, against a bare futex: a ring of as many threads in which each wakes the next
 * as often as the baton was handed on. A row `-over-futex` is the share of the bare futex's rate that the explorer reaches. All
 * threads are on one CPU, as those of an exploring cell are. Ratios count: how long a hand-off takes is the machine's matter.
 */
import { door } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { Board, Head, Kind, State } from '#src/schedule/board';
import { Checkpoint } from '#src/schedule/checkpoint';
import { defaultBudget } from '#src/schedule/commander';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { Cells, Ring, type Duty } from '../crew.ts';
import type { Question, Row } from '../question.ts';

const strategy = 'random';
/** Bundled, as the actors of a run are. */
const thread = createRequire(import.meta.url).resolve('#bundle/crew');

/** Starts a thread of the crew; it ends with the bench. */
function start(duty: Duty): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(thread, { workerData: duty });
    worker.once('error', reject);
    worker.once('message', () => {
      worker.unref();
      resolve();
    });
  });
}

interface Crew {
  readonly board: Board;
  readonly ring: Int32Array;
}

async function startCrew(names: readonly string[]): Promise<Crew> {
  const host = Host.create(65_536, 65_536);
  const cells = Cells.create(host.kernel);
  // A large table would be cleared at every call, but only once in an exploration.
  const board = Board.create({ actors: names.length, engines: 0, coverCapacity: 1 << 12 });
  const ring = new SharedArrayBuffer((Ring.TURN + names.length * Ring.STRIDE) * 4);
  const actor = { board: board.buffer, host: host.buffers, cells, checkpoint: Checkpoint.take(host) };
  for (const member of names.keys()) {
    await start({ member, names, actor, ring: null });
    await start({ member, names, actor: null, ring });
  }
  return { board, ring: new Int32Array(ring) };
}

/** Runs schedules 0 to `count` of seed 1; returns a hash of the last one. */
function explore({ board }: Crew, count: number): number {
  board.setText(Head.strategyName, strategy);
  board.set(Head.kind, Kind.EXPLORE);
  board.set(Head.first, 0);
  board.set(Head.stride, 1);
  board.set(Head.end, count);
  board.set(Head.seed, 1);
  board.set(Head.budget, defaultBudget);
  board.set(Head.passes, 0);
  board.set(Head.serial, board.get(Head.serial) + 1);
  board.set(Head.state, State.COMMAND);
  const seen = door.load(board.words, Head.answer);
  board.pass(0);
  while (door.load(board.words, Head.answer) === seen) door.wait(board.words, Head.answer, seen, 2_000);
  if (board.get(Head.failures) > 0) throw new Error(board.text(Head.message));
  return board.get(Head.hashLow);
}

/** Lets the ring wake one another `handOffs` times. */
function circle({ ring }: Crew, handOffs: number): number {
  ring[Ring.DONE] = 0;
  ring[Ring.LEFT] = handOffs;
  door.store(ring, Ring.TURN, 1);
  door.notify(ring, Ring.TURN, 1);
  while (door.load(ring, Ring.DONE) === 0) door.wait(ring, Ring.DONE, 0, 2_000);
  return ring[Ring.LEFT]!;
}

const crews = { '3-actors': await startCrew(['first', 'second', 'third']), '2-actors': await startCrew(['first', 'second']) };

export default {
  asks: 'how much of the rate of a bare futex is left when it decides, records and restores, too?',
  prepare(tiny) {
    const schedules = tiny ? 4 : 400;
    const rows = Object.entries(crews).flatMap(([name, crew]): Row[] => {
      explore(crew, schedules);
      const handOffs = crew.board.get(Head.passes);
      const futex = `${name.replace('actors', 'threads')}, bare futex`;
      const call = (): number => explore(crew, schedules);
      return [
        { name: futex, operations: schedules, unit: 'op/s', call: () => circle(crew, handOffs) },
        { name, operations: schedules, unit: 'op/s', call },
        { name: `${name}-over-futex`, operations: schedules, unit: 'ratio', against: futex, call },
      ];
    });
    return { rows };
  },
} satisfies Question;
