/**
 * A worker thread that plays one actor of a model, as the workers of the real thing do.
 */
import { History, historyBytes } from '#hostmem/history';
import { Host, type HostBuffers } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { Baton } from '#src/schedule/baton';
import { Board } from '#src/schedule/board';
import { Checkpoint, type CheckpointBuffers } from '#src/schedule/checkpoint';
import { Strategies } from '#src/schedule/strategy';
import { withoutClocks } from '#workers/poison';
import { models, Unheard, type Room } from './models.ts';

export interface Task {
  readonly model: string;
  readonly actor: number;
  readonly cells: number;
  readonly board: SharedArrayBuffer;
  readonly host: HostBuffers;
  readonly checkpoint: CheckpointBuffers;
  /** Word 0: words that differed from the snapshot after a reset; counted by every schedule's last actor. */
  readonly differences: SharedArrayBuffer | null;
}

export default async function play(task: Task): Promise<void> {
  const host = new Host(task.host);
  const room: Room = { host, cells: task.cells as Ref<'ScheduleCells'> };
  const model = models[task.model]!;
  const checkpoint = new Checkpoint(host, task.checkpoint);
  const differences = task.differences === null ? null : new Int32Array(task.differences);
  const baton = new Baton({
    board: new Board(task.board),
    actor: task.actor,
    host,
    checkpoint,
    engines: model.engines?.(room) ?? [],
    names: model.actors.map((_, actor) => `actor${actor}`),
    strategies: await Strategies.load(),
    hooks: {
      judge: () => model.judge?.(room) ?? null,
      reset() {
        if (differences === null) return;
        differences[1]!++;
        if (checkpoint.firstDifference() !== null) differences[0]!++;
      },
    },
  });
  // Nobody judges the events of a model, but their order is an order.
  const history = new History(new SharedArrayBuffer(historyBytes(1, 1)), 1, 1);
  host.kernel.history = history;
  history.listener = (kind) => {
    history.clear();
    baton.inOrder(kind === Unheard.kind ? 0 : 1, 0);
  };
  const body = model.actors[task.actor]!;
  withoutClocks(() => baton.run(() => body(room)));
}
