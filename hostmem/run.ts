/**
 * Runs: arrays of words in the heap, for data whose length is known only when it is made (frame lists, rings).
 * Elements are reached as no point: a run belongs to a record, and the record's lock guards it.
 */
import { peek, poke } from './atomics.ts';
import type { Memory } from './memory.ts';
import { addressOf, allocate, free, headerBytes, largestBytes, NULL, tryAllocate, typeNumber, type Ref } from './object.ts';

const type = typeNumber('Run');

/** A zeroed run of `count` words. */
export function createRun(memory: Memory, count: number): Ref<'Run'> {
  const run = allocate(memory, type, (count + 1) * 4) as Ref<'Run'>;
  poke(memory, addressOf(memory, run, type) + headerBytes, count);
  return run;
}

/** As `createRun`, but `NULL` when the heap is full or has no block that large. */
export function tryCreateRun(memory: Memory, count: number): Ref<'Run'> {
  if ((count + 1) * 4 > largestBytes || (memory.faults !== null && memory.faults.refuses('a run'))) return NULL;
  const run = tryAllocate(memory, type, (count + 1) * 4) as Ref<'Run'>;
  if (run !== NULL) poke(memory, addressOf(memory, run, type) + headerBytes, count);
  return run;
}

export function freeRun(memory: Memory, run: Ref<'Run'>): void {
  free(memory, run, type);
}

export function runGet(memory: Memory, run: Ref<'Run'>, index: number): number {
  return peek(memory, element(memory, run, index));
}

export function runSet(memory: Memory, run: Ref<'Run'>, index: number, value: number): void {
  poke(memory, element(memory, run, index), value);
}

/** Where in `[index, end)` the first element is that is not 0; `end` when all are. */
export function runZerosEnd(memory: Memory, run: Ref<'Run'>, index: number, end: number): number {
  if (index >= end) return index;
  element(memory, run, end - 1);
  const first = element(memory, run, index);
  let at = index;
  while (at < end && peek(memory, first + (at - index) * 4) === 0) at++;
  return at;
}

/** Adds to `count` elements from `index` on. */
export function runAdd(memory: Memory, run: Ref<'Run'>, index: number, count: number, delta: number): void {
  if (count === 0) return;
  element(memory, run, index + count - 1);
  const first = element(memory, run, index);
  for (let at = first; at < first + count * 4; at += 4) poke(memory, at, peek(memory, at) + delta);
}

function element(memory: Memory, run: Ref<'Run'>, index: number): number {
  const at = addressOf(memory, run, type) + headerBytes;
  if (index < 0 || index >= peek(memory, at)) throw new Error(`index ${index} is outside a run of ${peek(memory, at)} words`);
  return at + 4 + index * 4;
}
