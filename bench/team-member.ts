/** A thread of a team. Pairs with `team.ts`. */
import { door } from '#hostmem/atomics';
import { loadModule } from '#src/load-module';
import { workerData } from 'node:worker_threads';
import { TeamWord, timesKept, type MemberOrder } from './team.ts';

const { member, module, job, words, times } = workerData as MemberOrder;
const { work } = await loadModule<{ work: (job: unknown) => (count: number) => number }>(module);
const run = work(job);

function answer(sum: number): void {
  door.add(words, TeamWord.sum, sum);
  door.add(words, TeamWord.done, 1);
  door.notify(words, TeamWord.done);
}

/** Until the turn ends; throws when the same operations return something else. Who sits it out answers with the others. */
function goOn(count: number, turn: number): number {
  if (member < door.load(words, TeamWord.first) || member >= door.load(words, TeamWord.end)) {
    for (let ended = door.load(words, TeamWord.ended); ended !== turn; ended = door.load(words, TeamWord.ended)) door.wait(words, TeamWord.ended, ended, Infinity);
    return 0;
  }
  const sum = run(count);
  for (let chunk = 0; door.load(words, TeamWord.ended) !== turn; chunk++) {
    const begin = process.hrtime.bigint();
    const again = run(count);
    if (again !== sum) throw new Error(`operations returned ${again}, at first ${sum}`);
    times[chunk % timesKept] = Number(process.hrtime.bigint() - begin);
    times[timesKept] = chunk + 1;
    door.add(words, TeamWord.made + member * TeamWord.stride, count);
  }
  return sum;
}

answer(0);
for (let turn = 0; ; ) {
  door.wait(words, TeamWord.turn, turn, Infinity);
  const next = door.load(words, TeamWord.turn);
  if (next < 0) break;
  if (next === turn) continue;
  turn = next;
  const count = door.load(words, TeamWord.count);
  if (door.load(words, TeamWord.steady) === 0) answer(run(count));
  else answer(goOn(count, turn));
}
