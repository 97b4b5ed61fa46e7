import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

/** Starts a thread that is told a task; returns what it posts. `file` is below `test/`, without an ending. */
export function answerOf<A>(file: string, task: object): Promise<A> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(fileURLToPath(new URL(`../dist/test/${file}.js`, import.meta.url)), { workerData: task });
    worker.on('message', resolve);
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`a thread of ${file} ended with ${code} before it answered`)));
  });
}
