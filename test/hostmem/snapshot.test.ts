import fc from 'fast-check';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Owner } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import { idTable } from '#hostmem/id-table';
import { intervalTree } from '#hostmem/interval-tree';
import { mutex, rwsem, waitWord } from '#hostmem/locks';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import { DirtyPages, firstDifference, takeSnapshot } from '#hostmem/snapshot';
import { object, u32, u64, words } from '#hostmem/struct';
import { expect, test } from 'vitest';
import { Recorder } from './recorder.ts';

const World = object('TestWorld', {
  lock: mutex,
  sem: rwsem,
  word: u32,
  guarded: u32.under('lock'),
  wide: u64,
  many: words(20),
  bell: waitWord,
  ids: idTable,
  areas: intervalTree.under('lock'),
});

/** As in a controlled run: every point passes, every changed page is marked. */
class Marker extends Recorder {
  readonly #pages: Map<Memory, DirtyPages>;
  constructor(pages: Map<Memory, DirtyPages>) {
    super();
    this.#pages = pages;
  }
  override dirty(memory: Memory, at: number): void {
    this.#pages.get(memory)!.mark(at);
  }
}

function marked() {
  const host = Host.create(1 << 20, 1 << 20);
  const world = World.create(host.kernel);
  const table = new PageTable(host.ram, host.frames, vtdSecondStage(3));
  const root = table.create();
  const memories = [host.ram, host.kernel];
  const snapshots = memories.map((memory) => new Int32Array(takeSnapshot(memory)));
  const pages = new Map(memories.map((memory) => [memory, new DirtyPages(new SharedArrayBuffer(DirtyPages.bytes(memory.sizeBytes)))]));
  const marker = new Marker(pages);
  for (const memory of memories) memory.control = marker;
  return { host, world, table, root, memories, snapshots, pages };
}

type Marked = ReturnType<typeof marked>;

/** One of everything that changes shared memory. */
const steps: Record<string, (real: Marked, n: number) => void> = {
  object: ({ host }) => void World.create(host.kernel),
  freedObject: ({ host }) => World.free(host.kernel, World.create(host.kernel)),
  frame: ({ host }) => void host.frames.allocate(Owner.KERNEL),
  freedFrame: ({ host }) => {
    const frame = host.frames.allocate(Owner.KERNEL);
    if (frame !== 0) host.frames.drop(frame);
  },
  mutex: ({ host, world }, n) => {
    World.lock.acquire(host.kernel, world);
    World.guarded.write(host.kernel, world, n);
    World.lock.release(host.kernel, world);
  },
  unguarded: ({ host, world }, n) => World.guarded.write(host.kernel, world, n),
  rwsem: ({ host, world }) => {
    World.sem.acquireRead(host.kernel, world);
    World.sem.releaseRead(host.kernel, world);
    World.sem.acquireWrite(host.kernel, world);
  },
  words: ({ host, world }, n) => {
    World.word.store(host.kernel, world, n);
    World.word.compareExchange(host.kernel, world, n, n + 1);
    World.word.exchange(host.kernel, world, n);
    World.word.write(host.kernel, world, n * 3);
    World.many.set(host.kernel, world, n % 20, n);
    World.bell.add(host.kernel, world, 1);
  },
  wide: ({ host, world }, n) => {
    World.wide.write(host.kernel, world, n, ~n);
    World.wide.poke(host.kernel, world, ~n, n);
  },
  id: ({ host, world }, n) => {
    const id = World.ids.reserve(host.kernel, world);
    if (n % 3 === 0) World.ids.erase(host.kernel, world, id);
    else World.ids.publish(host.kernel, world, id, world);
  },
  interval: ({ host, world }, n) => {
    const node = World.areas.insert(host.kernel, world, 0, n, 1, n, 5 as Ref);
    if (n % 3 === 0 && node !== NULL) World.areas.remove(host.kernel, world, node);
  },
  mapping: ({ table, root }, n) => void table.mapPage(root, 0, n << 12, 9 as Frame, 3),
  unmapping: ({ table, root }, n) => void table.unmap(root, 0, n << 12, 3),
};

test('restoring the marked pages gives back all of both memories, whatever was done', () => {
  const real = marked();
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...Object.keys(steps)), fc.integer({ min: 0, max: 3_000 })), { maxLength: 40 }), (list) => {
      for (const [name, n] of list) steps[name]!(real, n);
      real.memories.forEach((memory, index) => {
        real.pages.get(memory)!.restore(memory, real.snapshots[index]!);
        expect(firstDifference(memory, real.snapshots[index]!)).toBe(-1);
        expect(real.pages.get(memory)!.count).toBe(0);
      });
    }),
    { numRuns: 300 },
  );
});

test('a write that marks no page is what the comparison finds', () => {
  const { host, snapshots, pages } = marked();
  host.ram.words[(hpaOf(3 as Frame) + 8) >>> 2] = 1;
  pages.get(host.ram)!.restore(host.ram, snapshots[0]!);
  expect(firstDifference(host.ram, snapshots[0]!)).toBe(hpaOf(3 as Frame) + 8);
});
