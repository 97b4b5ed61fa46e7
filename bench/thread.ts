/** The worker thread of one question: pairs with `ask.ts`. */
import { parentPort, workerData } from 'node:worker_threads';
import type { Order } from './ask.ts';
import { loadQuestion } from './catalogue.ts';
import { measure } from './measure.ts';

const { name, tiny, threads, seed } = workerData as Order;
parentPort!.postMessage(measure(name, await loadQuestion(name), tiny, { threads, seed }));
