/**
 * An exploring cell: a process of its own with one world and its actors' threads, pinned to one CPU by whoever starts it
 * (a hand-off between two threads costs a third there of what it costs across two CPUs). It answers requests over IPC.
 */
import { CellWorker } from './cell-worker.ts';
import type { CellRequest } from './cell-protocol.ts';

let worker: CellWorker | null = null;
let busy: Promise<void> = Promise.resolve();

process.on('message', (request: CellRequest) => {
  // While an exploration runs, its end may be lowered; everything else waits its turn.
  if (request.kind === 'stop before') worker?.stopBefore(request.index);
  else busy = busy.then(() => serve(request));
});
process.on('disconnect', () => process.exit(0));

async function serve(request: CellRequest): Promise<void> {
  try {
    if (request.kind === 'open') {
      worker = await CellWorker.open(request);
      reply({ kind: 'opened' });
    } else if (request.kind === 'explore') reply({ kind: 'explored', ...(await worker!.explore(request, (schedules) => reply({ kind: 'progress', schedules }))) });
    else if (request.kind === 'replay') reply({ kind: 'replayed', ...(await worker!.replay(request)) });
    else if (request.kind === 'shrink') reply({ kind: 'shrunk', ...(await worker!.shrink(request)) });
    else if (request.kind === 'tell') reply({ kind: 'told', ...(await worker!.tell(request)) });
    else if (request.kind === 'explain') reply({ kind: 'answered', ...(await worker!.explain(request)) });
    else await worker?.close();
  } catch (error) {
    reply({ kind: 'broken', message: error instanceof Error ? (process.env['DMARENA_DEBUG'] ? String(error.stack) : error.message) : String(error) });
  }
}

function reply(message: object): void {
  process.send?.(message);
}
