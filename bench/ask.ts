/**
 * Asks one question in a worker thread of its own: what the compiler learnt from another question does not count, and actors
 * run in workers too.
 */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import type { Answer, Setting } from './question.ts';

/** Bundled, as what runs run: V8 folds what a module has from itself, and looks up at each use what it imports. */
const thread = createRequire(import.meta.url).resolve('#bundle/bench');

/** What the thread is told. */
export interface Order extends Setting {
  readonly name: string;
  readonly tiny: boolean;
}

/** Rejects when the question throws. */
export function ask(order: Order): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(thread, { workerData: order });
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the thread of '${order.name}' ended with ${code} and no answer`)));
  });
}
