/**
 * The parent's side of a cell: starts its process pinned to one CPU where `taskset` exists, asks it one thing at a time.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { CellRequest, Explained, ExplainRequest, Explored, ExploreRequest, OpenRequest, Replayed, ReplayRequest, ShrinkRequest, ShrunkAnswer, TellRequest, Told } from './cell-protocol.ts';

type Reply = { readonly kind: string; readonly message?: string; readonly schedules?: number };

export class CellProcess {
  readonly #child: ChildProcess;
  readonly #onProgress: (schedules: number) => void;
  #answer: ((reply: Reply) => void) | null = null;
  #refuse: ((error: Error) => void) | null = null;

  private constructor(child: ChildProcess, onProgress: (schedules: number) => void) {
    this.#child = child;
    this.#onProgress = onProgress;
    child.on('message', (reply: Reply) => this.#receive(reply));
    child.on('exit', (code, signal) => this.#refuse?.(new Error(`an exploring process ended (${signal ?? `exit ${code}`})`)));
  }

  /** Starts a cell on a CPU and lets it build its world. */
  static async open(cpu: number | null, request: Omit<OpenRequest, 'kind'>, onProgress: (schedules: number) => void): Promise<CellProcess> {
    const file = createRequire(import.meta.url).resolve('#bundle/cell');
    const [command, ...args] = cpu === null ? [process.execPath, file] : ['taskset', '-c', String(cpu), process.execPath, file];
    const child = spawn(command!, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' });
    const cell = new CellProcess(child, onProgress);
    await cell.#ask({ kind: 'open', ...request });
    return cell;
  }

  explore(request: Omit<ExploreRequest, 'kind'>): Promise<Explored> {
    return this.#ask({ kind: 'explore', ...request });
  }
  replay(request: Omit<ReplayRequest, 'kind'>): Promise<Replayed> {
    return this.#ask({ kind: 'replay', ...request });
  }
  shrink(request: Omit<ShrinkRequest, 'kind'>): Promise<ShrunkAnswer> {
    return this.#ask({ kind: 'shrink', ...request });
  }
  tell(request: Omit<TellRequest, 'kind'>): Promise<Told> {
    return this.#ask({ kind: 'tell', ...request });
  }

  explain(request: Omit<ExplainRequest, 'kind'>): Promise<Explained> {
    return this.#ask({ kind: 'explain', ...request });
  }

  /** Lowers the end of the exploration that runs. */
  stopBefore(index: number): void {
    this.#child.send({ kind: 'stop before', index } satisfies CellRequest);
  }

  /** Ends the process. */
  close(): void {
    this.#refuse = null;
    this.#child.removeAllListeners('exit');
    this.#child.kill('SIGKILL');
  }

  #ask<T>(request: CellRequest): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#answer = (reply) => resolve(reply as unknown as T);
      this.#refuse = reject;
      this.#child.send(request);
    });
  }

  #receive(reply: Reply): void {
    if (reply.kind === 'progress') this.#onProgress(reply.schedules!);
    else if (reply.kind === 'broken') this.#refuse?.(new Error(reply.message));
    else this.#answer?.(reply);
  }
}

/** The CPUs that cells may be pinned to; one `null` where pinning is not possible. */
export function cellCpus(): (number | null)[] {
  if (process.platform !== 'linux' || spawnSync('taskset', ['--version']).status !== 0) return [null];
  const list = /^Cpus_allowed_list:\s*(\S+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  const cpus = list.split(',').flatMap((part) => {
    const [first, last] = part.split('-').map(Number);
    return Array.from({ length: (last ?? first!) - first! + 1 }, (_, i) => first! + i);
  });
  return cpus.length > 0 ? cpus : [null];
}
