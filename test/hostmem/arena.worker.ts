/** One thread of a test on shared memory: does the job that it is given and answers with a number. */
import { parentPort, workerData } from 'node:worker_threads';
import { peek, poke, Until } from '#hostmem/atomics';
import { History, event } from '#hostmem/history';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, words } from '#hostmem/struct';
import { Arena, type Task } from './arena.ts';
import { meet } from './meet.ts';

const Small = object('TestSmall', { stamps: words(8) });
const Large = object('TestLarge', { stamps: words(40) });
const Beat = event('test-beat', ['index']);

const task = workerData as Task;
const { arena, rounds, self, parties } = task;
const host = new Host(task.buffers);
const kernel = host.kernel;

/** Adds to a plain word under the mutex. */
function countUnderMutex(): number {
  for (let i = 0; i < rounds; i++) {
    Arena.lock.acquire(kernel, arena);
    const before = Arena.count.peek(kernel, arena);
    for (let spin = 0; spin < 50; spin++) Arena.lock.peek(kernel, arena);
    Arena.count.poke(kernel, arena, before + 1);
    Arena.lock.release(kernel, arena);
  }
  return rounds;
}

/** Adds only in its turn: while the one who should go on sleeps, all stand still. */
function takeTurnsUnderMutex(): number {
  for (let done = 0; done < rounds; ) {
    Arena.lock.acquire(kernel, arena);
    const before = Arena.count.peek(kernel, arena);
    if (before % parties === self) {
      Arena.count.poke(kernel, arena, before + 1);
      done++;
    }
    Arena.lock.release(kernel, arena);
  }
  return rounds;
}

/** Every third time a writer, who makes two words differ for a while; else a reader, who counts how often they did. */
function readAndWrite(): number {
  let torn = 0;
  for (let i = 0; i < rounds; i++) {
    if ((i + self) % 3 !== 0) {
      Arena.sem.acquireRead(kernel, arena);
      if (Arena.left.peek(kernel, arena) !== Arena.right.peek(kernel, arena)) torn++;
      Arena.sem.releaseRead(kernel, arena);
      continue;
    }
    Arena.sem.acquireWrite(kernel, arena);
    Arena.left.poke(kernel, arena, Arena.left.peek(kernel, arena) + 1);
    for (let spin = 0; spin < 100; spin++) Arena.sem.peek(kernel, arena);
    Arena.right.poke(kernel, arena, Arena.right.peek(kernel, arena) + 1);
    Arena.sem.releaseWrite(kernel, arena);
  }
  return torn;
}

/** Waits for the write lock; answers in which place it got it. */
function writeOnce(): number {
  Arena.sem.acquireWrite(kernel, arena);
  const place = Arena.order.add(kernel, arena, 1);
  Arena.sem.releaseWrite(kernel, arena);
  return place;
}

function readOnce(): number {
  Arena.announced.store(kernel, arena, 1);
  Arena.sem.acquireRead(kernel, arena);
  const place = Arena.order.add(kernel, arena, 1);
  Arena.sem.releaseRead(kernel, arena);
  return place;
}

/** The turn goes round the threads; nobody may move but whose turn it is. */
function takeTurns(): number {
  for (let i = 0; i < rounds; i++) {
    Arena.turn.waitUntil(kernel, arena, Until.EQUAL, i * parties + self);
    Arena.count.poke(kernel, arena, Arena.count.peek(kernel, arena) + 1);
    Arena.turn.add(kernel, arena, 1);
  }
  return rounds;
}

/** Takes and frees blocks of two sizes and frames, stamping all it holds; answers how many stamps were not its own. */
function storm(): number {
  const small: Ref<'TestSmall'>[] = [];
  const large: Ref<'TestLarge'>[] = [];
  const frames: Frame[] = [];
  let foreign = 0;
  for (let i = 0; i < rounds; i++) {
    small.push(stamped(Small.create(kernel), Small));
    if (i % 3 === 0) large.push(stamped(Large.create(kernel), Large));
    if (i % 5 === 0) frames.push(stampedFrame(host.frames.allocate(16 + self)));
    const keep = (i * 7) % 40;
    while (small.length > keep) foreign += releaseBlock(small.shift()!, Small);
    while (large.length > keep) foreign += releaseBlock(large.pop()!, Large);
    while (frames.length > keep) foreign += releaseFrame(frames.shift()!);
  }
  for (const block of small) foreign += releaseBlock(block, Small);
  for (const block of large) foreign += releaseBlock(block, Large);
  for (const frame of frames) foreign += releaseFrame(frame);
  return foreign;
}

type Block<N extends string> = {
  stamps: { count: number; get(memory: Memory, at: number, index: number): number; set(memory: Memory, at: number, index: number, value: number): void };
  free(memory: Memory, ref: Ref<N>): void;
};

function stamped<N extends string>(ref: Ref<N>, type: Block<N>): Ref<N> {
  for (let i = 0; i < type.stamps.count; i++) {
    if (type.stamps.get(kernel, ref, i) !== 0) throw new Error('a new block is not zeroed');
    type.stamps.set(kernel, ref, i, ref ^ self);
  }
  return ref;
}

function releaseBlock<N extends string>(ref: Ref<N>, type: Block<N>): number {
  let foreign = 0;
  for (let i = 0; i < type.stamps.count; i++) if (type.stamps.get(kernel, ref, i) !== (ref ^ self)) foreign++;
  type.free(kernel, ref);
  return foreign;
}

function stampedFrame(frame: Frame): Frame {
  if (frame === 0) throw new Error('RAM is used up');
  for (let at: number = hpaOf(frame); at < hpaOf(frame) + 4096; at += 256) {
    if (peek(host.ram, at) !== 0) throw new Error('a new frame is not zeroed');
    poke(host.ram, at, frame ^ (self << 20));
  }
  return frame;
}

function releaseFrame(frame: Frame): number {
  let foreign = host.frames.ownerOf(frame) === 16 + self ? 0 : 1;
  for (let at: number = hpaOf(frame); at < hpaOf(frame) + 4096; at += 256) if (peek(host.ram, at) !== (frame ^ (self << 20))) foreign++;
  host.frames.drop(frame);
  return foreign;
}

/** Emits into a ring of its own. */
function beat(): number {
  const history = new History(task.history!, parties, rounds);
  history.ring = self;
  history.actor = self + 1;
  kernel.history = history;
  for (let i = 0; i < rounds; i++) Beat.emit(kernel, i);
  return rounds;
}

const jobs: Record<string, () => number> = { countUnderMutex, takeTurnsUnderMutex, readAndWrite, writeOnce, readOnce, takeTurns, storm, beat };
meet(task.start, parties);
const answer = jobs[task.job]!();
parentPort!.postMessage(answer);
