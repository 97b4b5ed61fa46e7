/** A thread of a team. Pairs with `team.ts`. */
import { door } from '#hostmem/atomics';
import { workerData } from 'node:worker_threads';
import { TeamWord, type MemberOrder } from './team.ts';

const { module, job, words } = workerData as MemberOrder;
const { work } = (await import(module)) as { work: (job: unknown) => (count: number) => number };
const run = work(job);

function answer(sum: number): void {
  door.add(words, TeamWord.sum, sum);
  door.add(words, TeamWord.done, 1);
  door.notify(words, TeamWord.done);
}

answer(0);
for (let turn = 0; ; ) {
  door.wait(words, TeamWord.turn, turn, Infinity);
  const next = door.load(words, TeamWord.turn);
  if (next < 0) break;
  if (next === turn) continue;
  turn = next;
  answer(run(door.load(words, TeamWord.count)));
}
