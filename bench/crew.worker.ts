/**
 * A thread of the bench `explore`: an actor with a tiny body under the baton, or a member of a ring in which each wakes the
 * next and sleeps: the bare futex that the baton is compared with.
 */
import { door } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { cellCpus } from '#src/cell-process';
import { Baton } from '#src/schedule/baton';
import { Board } from '#src/schedule/board';
import { Checkpoint } from '#src/schedule/checkpoint';
import { Strategies } from '#src/schedule/strategy';
import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { Cells, Ring, type Duty } from './crew.ts';

/** One locked section and two accesses without it. */
function section(host: Host, cells: Ref<'BenchCrewCells'>, value: number): void {
  const { kernel } = host;
  Cells.first.load(kernel, cells);
  Cells.lock.acquire(kernel, cells);
  Cells.first.store(kernel, cells, value);
  Cells.second.store(kernel, cells, value);
  Cells.lock.release(kernel, cells);
  Cells.third.add(kernel, cells, value);
}

async function act({ member, names, actor }: Duty & { actor: NonNullable<Duty['actor']> }): Promise<void> {
  const host = new Host(actor.host);
  const cells = actor.cells as Ref<'BenchCrewCells'>;
  const checkpoint = new Checkpoint(host, actor.checkpoint);
  const hooks = { judge: () => null, reset() {} };
  const baton = new Baton({ board: new Board(actor.board), actor: member, host, checkpoint, engines: [], names, strategies: await Strategies.load(), hooks });
  parentPort!.postMessage('ready');
  baton.run(() => section(host, cells, member + 1));
}

function circle(member: number, members: number, ring: SharedArrayBuffer): void {
  const words = new Int32Array(ring);
  const own = Ring.TURN + member * Ring.STRIDE;
  const next = Ring.TURN + ((member + 1) % members) * Ring.STRIDE;
  parentPort!.postMessage('ready');
  for (;;) {
    while (door.load(words, own) === 0) door.wait(words, own, 0, 2_000);
    words[own] = 0;
    if (words[Ring.LEFT]! === 0) {
      door.store(words, Ring.DONE, 1);
      door.notify(words, Ring.DONE, 1);
      continue;
    }
    words[Ring.LEFT]! -= 1;
    door.store(words, next, 1);
    door.notify(words, next, 1);
  }
}

/** To the CPU that an exploring cell would be pinned to: a wake-up across two CPUs costs several times as much. */
function pin(): void {
  const cpu = cellCpus()[0]!;
  if (cpu !== null) spawnSync('taskset', ['-cp', String(cpu), readlinkSync('/proc/thread-self').split('/').pop()!]);
}

const duty = workerData as Duty;
pin();
if (duty.actor !== null) await act({ ...duty, actor: duty.actor });
else circle(duty.member, duty.names.length, duty.ring!);
