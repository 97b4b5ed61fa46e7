import type { HostBuffers } from '#hostmem/host';
import { mutex, rwsem, waitWord } from '#hostmem/locks';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { answerOf } from '../answer-of.ts';

/** What the threads of one test share. */
export const Arena = object('TestArena', { lock: mutex, sem: rwsem, turn: waitWord, count: u32, left: u32, right: u32, order: u32, announced: u32 });
export type Arena = Ref<'TestArena'>;

export interface Task {
  /** One of the jobs in `arena.worker.ts`. */
  job: string;
  buffers: HostBuffers;
  arena: Arena;
  /** Who of the `parties` threads this is, from 0. */
  self: number;
  parties: number;
  rounds: number;
  /** Where they meet before they begin. */
  start: Int32Array;
  /** A history, where the job writes one. */
  history?: SharedArrayBuffer;
}

/** Runs a job on a thread of its own; resolves with what the job returned. */
export const runTask = (task: Task): Promise<number> => answerOf('hostmem/arena.worker', task);

/** The same job on several threads that begin together. */
export function runTasks(task: Omit<Task, 'self' | 'start'>): Promise<number[]> {
  const start = new Int32Array(new SharedArrayBuffer(4));
  return Promise.all(Array.from({ length: task.parties }, (_, self) => runTask({ ...task, self, start })));
}
