/** A thread of a crew. Pairs with `crew.ts`. */
import { door } from '#hostmem/atomics';
import { workerData } from 'node:worker_threads';
import { CrewWord, type MemberOrder } from './crew.ts';

const { module, job, words } = workerData as MemberOrder;
const { work } = (await import(module)) as { work: (job: unknown) => (count: number) => number };
const run = work(job);

function answer(sum: number): void {
  door.add(words, CrewWord.sum, sum);
  door.add(words, CrewWord.done, 1);
  door.notify(words, CrewWord.done);
}

answer(0);
for (let turn = 0; ; ) {
  door.wait(words, CrewWord.turn, turn, Infinity);
  const next = door.load(words, CrewWord.turn);
  if (next < 0) break;
  if (next === turn) continue;
  turn = next;
  answer(run(door.load(words, CrewWord.count)));
}
