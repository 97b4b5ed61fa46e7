/**
 * One cell of a model for tests: a host, a board, and a thread for every actor.
 */
import { Host } from '#hostmem/host';
import { Board } from '#src/schedule/board';
import { Checkpoint } from '#src/schedule/checkpoint';
import { Commander } from '#src/schedule/commander';
import { Strategies } from '#src/schedule/strategy';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Piscina } from 'piscina';
import type { Task } from './actor.worker.ts';
import { Cells, models } from './models.ts';

/** Where `#hostmem` is compiled to: threads run from there, also when this file does not. */
const compiledHostmem = pathToFileURL(createRequire(import.meta.url).resolve('#hostmem/host'));

export interface Cell {
  readonly commander: Commander;
  readonly board: Board;
  /** Resets that were compared with the snapshot, and how many of them differed. */
  readonly resets: () => { compared: number; different: number };
  /** Ends the threads; `destroy` also where they hang. */
  readonly close: () => Promise<void>;
  readonly destroy: () => Promise<void>;
}

interface CellOptions {
  readonly compares?: boolean;
  readonly stallMs?: number;
  readonly stackCapacity?: number;
  readonly coverCapacity?: number;
}

export async function openCell(name: string, { compares = false, stallMs = 30_000, ...size }: CellOptions = {}): Promise<Cell> {
  const model = models[name]!;
  const host = Host.create(65_536, 131_072);
  const cells = Cells.create(host.kernel);
  model.set?.({ host, cells });
  const engines = model.engines?.({ host, cells }).length ?? 0;
  const actors = model.actors.length;
  const board = Board.create({ actors, engines, ...size });
  const checkpoint = Checkpoint.take(host);
  const differences = new SharedArrayBuffer(8);
  const filename = new URL('../test/schedule/actor.worker.js', compiledHostmem).href;
  const pool = new Piscina({ filename, minThreads: actors, maxThreads: actors, concurrentTasksPerWorker: 1, atomics: 'async' });
  const tasks = model.actors.map((_, actor): Promise<unknown> => {
    const task: Task = { model: name, actor, cells, board: board.buffer, host: host.buffers, checkpoint, differences: compares ? differences : null };
    return pool.run(task);
  });
  const ended = Promise.all(tasks);
  const commander = new Commander(board, await Strategies.load(), ended, stallMs);
  return {
    commander,
    board,
    resets: () => ({ compared: new Int32Array(differences)[1]!, different: new Int32Array(differences)[0]! }),
    async close() {
      await commander.close();
      await pool.close();
    },
    destroy: () => pool.destroy(),
  };
}
