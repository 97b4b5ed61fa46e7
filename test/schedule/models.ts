/**
 * Small models with known bugs, for the scheduler's own tests: words of shared memory, and a body for each actor.
 */
import { choose, makeLate, Until } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import { event } from '#hostmem/history';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import { mutex, rwsem, waitWord } from '#hostmem/locks';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { Violation } from '#src/schedule/violation';

export const Cells = object('ScheduleCells', {
  lock: mutex,
  other: mutex,
  many: rwsem,
  m1: u32,
  m2: u32,
  m3: u32,
  m4: u32,
  m5: u32,
  m6: u32,
  guarded: u32.under('lock'),
  asked: waitWord,
  answered: waitWord,
});
const choiceLabel = label('a choice');
const Told = event('model tells', ['what']);
/** Told to nobody. */
export const Unheard = event('model mutters', ['what']);
const Brief = object('ScheduleBrief', { word: u32 });

export interface Room {
  readonly host: Host;
  readonly cells: Ref<'ScheduleCells'>;
}

export interface Model {
  readonly set?: (room: Room) => void;
  readonly actors: readonly ((room: Room) => void)[];
  readonly engines?: (room: Room) => Engine[];
  readonly judge?: (room: Room) => Violation | null;
}

function expect(condition: boolean, message: string): void {
  if (!condition) throw new Violation('MODEL', message);
}

function setThree({ host: { kernel }, cells }: Room, value: number): void {
  Cells.lock.acquire(kernel, cells);
  try {
    Cells.m1.store(kernel, cells, value);
    Cells.m2.store(kernel, cells, value);
    Cells.m3.store(kernel, cells, value);
  } finally {
    Cells.lock.release(kernel, cells);
  }
}

function compareOneAndThree({ host: { kernel }, cells }: Room): void {
  const group = Cells.m1.load(kernel, cells);
  const device = Cells.m3.load(kernel, cells);
  expect(group === device, `the group says ${group}, the device ${device}`);
}

function setOnes({ host: { kernel }, cells }: Room): void {
  Cells.m1.poke(kernel, cells, 1);
  Cells.m2.poke(kernel, cells, 1);
  Cells.m3.poke(kernel, cells, 1);
}

function underLock(room: Room, section: (room: Room) => void): void {
  Cells.lock.acquire(room.host.kernel, room.cells);
  try {
    section(room);
  } finally {
    Cells.lock.release(room.host.kernel, room.cells);
  }
}

/** The device of `stale-hit` and `fill-vs-unmap`: looks into the cache (m2), fills it from the table (m1). */
function translateTwice(room: Room, fill: (room: Room) => void): void {
  const { kernel } = room.host;
  for (let i = 0; i < 2; i++) {
    const isUnmapped = Cells.m3.load(kernel, room.cells);
    const hit = Cells.m2.load(kernel, room.cells);
    if (hit !== 0) expect(isUnmapped === 0, 'the cache hits after the unmap has returned');
    else fill(room);
  }
}

function fillCache({ host: { kernel }, cells }: Room): void {
  const page = Cells.m1.load(kernel, cells);
  if (page !== 0) Cells.m2.store(kernel, cells, page);
}

function clearBoth({ host: { kernel }, cells }: Room): void {
  Cells.m1.store(kernel, cells, 0);
  Cells.m2.store(kernel, cells, 0);
}

function unmapped({ host: { kernel }, cells }: Room): void {
  Cells.m3.store(kernel, cells, 1);
}

function addFour({ host: { kernel }, cells }: Room): void {
  for (let i = 0; i < 4; i++) Cells.m1.add(kernel, cells, 1);
}

function addTwo({ host: { kernel }, cells }: Room): void {
  for (let i = 0; i < 2; i++) Cells.m1.add(kernel, cells, 1);
}

function addPerhaps({ host: { kernel }, cells }: Room): void {
  Cells.m1.add(kernel, cells, 1);
  if (choose(kernel, 2, choiceLabel) === 1) Cells.m1.add(kernel, cells, 1);
}

/** Tells that it begins before its first point, and that it has ended behind its last one. */
function call(room: Room, section: (room: Room) => void): void {
  Told.emit(room.host.kernel, 0);
  section(room);
  Told.emit(room.host.kernel, 1);
}

/** What a step does after a choice depends on what was chosen. */
function tellOrAdd(room: Room): void {
  const { host: { kernel }, cells } = room;
  Cells.m2.add(kernel, cells, 1);
  if (choose(kernel, 2, choiceLabel) === 1) Told.emit(kernel, 2);
  Cells.m1.add(kernel, cells, 1);
}

function readMany({ host: { kernel }, cells }: Room): void {
  Cells.many.acquireRead(kernel, cells);
  Cells.m1.load(kernel, cells);
  Cells.many.releaseRead(kernel, cells);
}

function writeMany({ host: { kernel }, cells }: Room): void {
  Cells.many.acquireWrite(kernel, cells);
  Cells.m1.store(kernel, cells, 1);
  Cells.many.releaseWrite(kernel, cells);
}

/** 12 points a round: a lock, ten accesses, an unlock. */
function busy({ host: { kernel }, cells }: Room): void {
  for (let round = 0; round < 3; round++) {
    Cells.lock.acquire(kernel, cells);
    for (let i = 0; i < 5; i++) Cells.m1.store(kernel, cells, Cells.m2.load(kernel, cells) + i);
    Cells.lock.release(kernel, cells);
  }
}

/** Wants something, and takes it back if the other one wants it too. */
function giveWay({ host: { kernel }, cells }: Room, own: typeof Cells.m1, others: typeof Cells.m1): void {
  for (;;) {
    own.store(kernel, cells, 1);
    if (others.load(kernel, cells) === 0) break;
    own.store(kernel, cells, 0);
  }
  Cells.asked.store(kernel, cells, 1);
  own.store(kernel, cells, 0);
}

function lockBoth(room: Room, first: typeof Cells.lock, second: typeof Cells.lock): void {
  const { kernel } = room.host;
  first.acquire(kernel, room.cells);
  second.acquire(kernel, room.cells);
  Cells.m1.add(kernel, room.cells, 1);
  second.release(kernel, room.cells);
  first.release(kernel, room.cells);
}

/** Lives outside the memory that is restored: what a model must not do. */
let leak = 0;

export const models: Record<string, Model> = {
  'torn-pointer': { set: setOnes, actors: [(room) => setThree(room, 2), compareOneAndThree] },

  'use-after-replace': {
    set: ({ host: { kernel }, cells }) => Cells.m1.poke(kernel, cells, 1),
    actors: [
      ({ host: { kernel }, cells }) => {
        const old = Cells.m1.exchange(kernel, cells, 2);
        if (old === 1) Cells.m5.store(kernel, cells, 1);
        else Cells.m6.store(kernel, cells, 1);
      },
      ({ host: { kernel }, cells }) => {
        Cells.m3.add(kernel, cells, 1);
        Cells.m3.add(kernel, cells, 1);
      },
      ({ host: { kernel }, cells }) => {
        const used = Cells.m1.load(kernel, cells);
        const isFreed = used === 1 ? Cells.m5.load(kernel, cells) : Cells.m6.load(kernel, cells);
        expect(isFreed === 0, `object ${used} is used after it was freed`);
      },
    ],
  },

  'stale-hit': {
    set: ({ host: { kernel }, cells }) => Cells.m1.poke(kernel, cells, 7),
    actors: [
      (room) => translateTwice(room, fillCache),
      (room) => {
        clearBoth(room);
        unmapped(room);
      },
    ],
  },

  'three-locks': {
    set: setOnes,
    actors: [(room) => setThree(room, 2), (room) => setThree(room, 3), (room) => underLock(room, compareOneAndThree)],
  },

  'fill-vs-unmap': {
    set: ({ host: { kernel }, cells }) => Cells.m1.poke(kernel, cells, 7),
    actors: [
      (room) => translateTwice(room, (inner) => underLock(inner, fillCache)),
      (room) => {
        underLock(room, clearBoth);
        unmapped(room);
      },
    ],
  },

  'adds-2x4': { actors: [addFour, addFour] },

  'adds-3x4': {
    actors: [addFour, addFour, addFour],
    judge: ({ host: { kernel }, cells }) => {
      const sum = Cells.m1.peek(kernel, cells);
      return sum === 12 ? null : new Violation('SUM', `twelve additions give ${sum}`);
    },
  },

  /** A load and a store where an addition belongs: only the judge sees it. */
  'lost-update': {
    actors: [0, 1].map(() => ({ host: { kernel }, cells }: Room): void => {
      Cells.m1.store(kernel, cells, Cells.m1.load(kernel, cells) + 1);
    }),
    judge: ({ host: { kernel }, cells }) => {
      const sum = Cells.m1.peek(kernel, cells);
      const at = Cells.m1.address(kernel, cells);
      return sum === 2 ? null : new Violation('SUM', `two additions give ${sum}`, [{ space: 1, at }]);
    },
  },

  'abba': { actors: [(room) => lockBoth(room, Cells.lock, Cells.other), (room) => lockBoth(room, Cells.other, Cells.lock)] },

  /** The second actor throws when it finds the first in the middle; the first and the third hold or want the lock. */
  'throws': {
    actors: [
      (room) => setThree(room, 2),
      ({ host: { kernel, ram }, cells }) => {
        Cells.m4.store(kernel, cells, 9);
        ram.words[0] = ram.words[0]!;
        if (Cells.m1.load(kernel, cells) === 2 && Cells.m3.load(kernel, cells) === 0) throw new RangeError('the second actor gives up');
      },
      (room) => setThree(room, 3),
    ],
  },

  /** Follows a reference to what the other actor frees. */
  'dangling': {
    set: ({ host: { kernel }, cells }) => Cells.m1.poke(kernel, cells, Brief.create(kernel)),
    actors: [
      ({ host: { kernel }, cells }) => {
        const brief = Cells.m1.exchange(kernel, cells, 0);
        Brief.free(kernel, brief as Ref<'ScheduleBrief'>);
      },
      ({ host: { kernel }, cells }) => {
        const brief = Cells.m1.load(kernel, cells);
        if (brief !== 0) Brief.word.store(kernel, brief, Brief.word.load(kernel, brief) + 1);
      },
    ],
  },

  /** Two readers and a writer of one semaphore. */
  'two-readers': {
    actors: [readMany, readMany, writeMany],
  },

  /** One waits for what the other does in between, twice. */
  'waits': {
    actors: [
      ({ host: { kernel }, cells }) => {
        Cells.asked.waitUntil(kernel, cells, Until.EQUAL, 1);
        Cells.m1.add(kernel, cells, 1);
        Cells.answered.store(kernel, cells, 1);
      },
      ({ host: { kernel }, cells }) => {
        Cells.asked.store(kernel, cells, 1);
        Cells.m1.add(kernel, cells, 1);
        Cells.answered.waitUntil(kernel, cells, Until.DIFFERENT, 0);
        Cells.asked.store(kernel, cells, 0);
      },
    ],
  },

  /** Answers without a word to who waits. */
  'does-not-wake': {
    actors: [
      ({ host: { kernel }, cells }) => Cells.asked.waitUntil(kernel, cells, Until.EQUAL, 1),
      ({ host: { kernel }, cells }) => {
        Cells.m1.store(kernel, cells, 1);
        Cells.asked.poke(kernel, cells, 1);
      },
    ],
  },

  /** Ask what no schedule may know. */
  'reads-the-clock': { actors: [({ host: { kernel }, cells }) => Cells.m1.store(kernel, cells, Date.now() | 0), addFour] },
  'draws': { actors: [({ host: { kernel }, cells }) => Cells.m1.store(kernel, cells, Math.random() * 9), addFour] },
  'sets-a-timer': { actors: [addFour, () => void setTimeout(() => undefined, 1)] },

  'unguarded': {
    actors: [
      (room) => underLock(room, ({ host: { kernel }, cells }) => Cells.guarded.write(kernel, cells, 5)),
      ({ host: { kernel }, cells }) => Cells.guarded.write(kernel, cells, 6),
    ],
  },

  /** The client asks, the engine answers; an engine that answers before it has the value (m1) is found out. */
  'engine': {
    actors: [
      ({ host: { kernel }, cells }) => {
        Cells.asked.store(kernel, cells, 1);
        Cells.answered.waitUntil(kernel, cells, Until.EQUAL, 1);
        expect(Cells.m2.load(kernel, cells) === 5, 'the answer is what was there before the value came');
      },
      ({ host: { kernel }, cells }) => Cells.m1.store(kernel, cells, 5),
    ],
    engines: ({ host: { kernel }, cells }) => [
      {
        name: 'answerer',
        memory: kernel,
        ready: () => Cells.asked.peek(kernel, cells) === 1 && Cells.answered.peek(kernel, cells) === 0,
        at: () => Cells.answered.address(kernel, cells),
        label: () => Cells.answered.label,
        step: () => {
          Cells.m2.store(kernel, cells, Cells.m1.load(kernel, cells));
          Cells.answered.store(kernel, cells, 1);
        },
      },
    ],
  },

  /** The client finds the engine late or not; who looks meanwhile (m1 is its note of the wait) is wrong only if it is. */
  'late-engine': {
    actors: [
      ({ host: { kernel }, cells }) => {
        const isLate = choose(kernel, 2, choiceLabel) === 1;
        if (isLate) makeLate(kernel, true);
        Cells.asked.store(kernel, cells, 1);
        Cells.answered.waitUntil(kernel, cells, Until.EQUAL, 1);
        if (isLate) makeLate(kernel, false);
        Cells.asked.store(kernel, cells, 2);
        Cells.answered.waitUntil(kernel, cells, Until.EQUAL, 2);
      },
      ({ host: { kernel }, cells }) => {
        const asked = Cells.asked.load(kernel, cells);
        Cells.m2.store(kernel, cells, 1);
        expect(asked !== 1 || Cells.answered.load(kernel, cells) === 1, 'it was asked and has not answered');
      },
    ],
    engines: ({ host: { kernel }, cells }) => [
      {
        name: 'answerer',
        memory: kernel,
        ready: () => Cells.asked.peek(kernel, cells) !== Cells.answered.peek(kernel, cells),
        at: () => Cells.answered.address(kernel, cells),
        label: () => Cells.answered.label,
        step: () => Cells.answered.store(kernel, cells, Cells.asked.peek(kernel, cells)),
      },
    ],
  },

  /** Two engines with several steps each, beside two actors; nothing is wrong. */
  'engines-agree': {
    actors: [
      ({ host: { kernel }, cells }) => {
        for (let round = 1; round <= 3; round++) {
          Cells.asked.store(kernel, cells, round);
          Cells.answered.waitUntil(kernel, cells, Until.EQUAL, round);
        }
      },
      addFour,
    ],
    engines: ({ host: { kernel }, cells }) => [
      {
        name: 'answerer',
        memory: kernel,
        ready: () => Cells.answered.peek(kernel, cells) < Cells.asked.peek(kernel, cells),
        at: () => Cells.answered.address(kernel, cells),
        label: () => Cells.answered.label,
        step: () => {
          Cells.m2.store(kernel, cells, Cells.m1.load(kernel, cells));
          Cells.answered.add(kernel, cells, 1);
        },
      },
      {
        name: 'follower',
        memory: kernel,
        ready: () => Cells.m4.peek(kernel, cells) < Cells.m1.peek(kernel, cells),
        at: () => Cells.m4.address(kernel, cells),
        label: () => Cells.m4.label,
        step: () => void Cells.m4.add(kernel, cells, 1),
      },
    ],
    judge: ({ host: { kernel }, cells }) => {
      const followed = Cells.m4.peek(kernel, cells);
      return followed === 4 ? null : new Violation('FOLLOWS', `the follower has seen ${followed} of 4 additions`);
    },
  },

  'engine-throws': {
    actors: [({ host: { kernel }, cells }) => Cells.m1.store(kernel, cells, 1), addFour],
    engines: ({ host: { kernel }, cells }) => [
      {
        name: 'broken',
        memory: kernel,
        ready: () => Cells.m1.peek(kernel, cells) > 2,
        at: () => Cells.m1.address(kernel, cells),
        label: () => Cells.m1.label,
        step: () => {
          Cells.m4.store(kernel, cells, 1);
          throw new RangeError('the engine is on fire');
        },
      },
    ],
  },

  'leaks': {
    actors: [
      ({ host: { kernel }, cells }) => Cells.m1.store(kernel, cells, leak++),
      ({ host: { kernel }, cells }) => void Cells.m1.load(kernel, cells),
    ],
  },

  /** Waits by asking again and again: never ends unless the other one runs. */
  'spins': {
    actors: [
      ({ host: { kernel }, cells }) => {
        while (Cells.m1.load(kernel, cells) === 0);
      },
      ({ host: { kernel }, cells }) => Cells.m1.store(kernel, cells, 1),
    ],
  },

  /** So many additions as a strategy wants, chosen before the first, beside two others. */
  'adds-0-to-2': {
    actors: [
      ({ host: { kernel }, cells }) => {
        for (let left = choose(kernel, 3, choiceLabel); left > 0; left--) Cells.m1.add(kernel, cells, 1);
      },
      addTwo,
    ],
  },

  /** One addition, and perhaps another one, on both sides. */
  'adds-perhaps': { actors: [addPerhaps, addPerhaps] },

  /** Two calls that have no word in common: one may have ended before the other begins. */
  'calls': {
    actors: [
      (room) => call(room, ({ host: { kernel }, cells }) => void Cells.m1.add(kernel, cells, 1)),
      (room) => call(room, ({ host: { kernel }, cells }) => void Cells.m2.add(kernel, cells, 1)),
    ],
  },

  /** The same where nobody looks at what is told. */
  'calls-unheard': {
    actors: [0, 1].map((actor) => ({ host: { kernel }, cells }: Room): void => {
      Unheard.emit(kernel, 0);
      (actor === 0 ? Cells.m1 : Cells.m2).add(kernel, cells, 1);
      Unheard.emit(kernel, 1);
    }),
  },

  /** A call, whoever uses the same word without one, and somebody who does nothing. */
  'call-beside-others': { actors: [(room) => call(room, (inner) => addTwo(inner)), addTwo, () => {}] },

  /** Steps that tell something or do not, as is chosen in them. */
  'tells-perhaps': { actors: [tellOrAdd, (room) => call(room, ({ host: { kernel }, cells }) => void Cells.m3.load(kernel, cells)), tellOrAdd] },

  /** The first one frees within its call what the second one reads in its own. */
  'frees-in-a-call': {
    set: ({ host: { kernel }, cells }) => Cells.m1.poke(kernel, cells, Brief.create(kernel)),
    actors: [
      (room) => call(room, ({ host: { kernel }, cells }) => Brief.free(kernel, Cells.m1.exchange(kernel, cells, 0) as Ref<'ScheduleBrief'>)),
      (room) =>
        call(room, ({ host: { kernel }, cells }) => {
          const brief = Cells.m1.load(kernel, cells);
          if (brief !== 0) Brief.word.load(kernel, brief);
        }),
    ],
  },

  /** Only where the first one fails on purpose, and is overtaken then, is it wrong. */
  'fails-badly': {
    actors: [
      ({ host: { kernel }, cells }) => {
        for (let i = 0; i < 6; i++) {
          Cells.m1.store(kernel, cells, 1);
          if (choose(kernel, 2, choiceLabel) === 1) Cells.m2.store(kernel, cells, 1);
          Cells.m1.store(kernel, cells, 0);
          Cells.m2.store(kernel, cells, 0);
        }
      },
      ({ host: { kernel }, cells }) => {
        const failed = Cells.m2.load(kernel, cells);
        expect(failed === 0 || Cells.m1.load(kernel, cells) === 1, 'it has failed and goes on');
      },
    ],
  },

  /** Looks once, before or after the other one, who waits to be told so by asking again and again. */
  'missed-signal': {
    actors: [
      ({ host: { kernel }, cells }) => {
        Cells.m1.store(kernel, cells, 1);
        while (Cells.m2.load(kernel, cells) === 0);
      },
      ({ host: { kernel }, cells }) => {
        if (Cells.m1.load(kernel, cells) === 1) Cells.m2.store(kernel, cells, 1);
      },
    ],
  },

  /** The same two in a circle of three steps each, and a third who waits for one of them to have done. */
  'after-you': {
    actors: [
      (room) => giveWay(room, Cells.m1, Cells.m2),
      (room) => giveWay(room, Cells.m2, Cells.m1),
      ({ host: { kernel }, cells }) => Cells.asked.waitUntil(kernel, cells, Until.EQUAL, 1),
    ],
  },

  /** Counts under a lock, for longer than anybody waits: not a step differs, but memory does. */
  'counts': {
    actors: [
      (room) => {
        for (;;) underLock(room, ({ host: { kernel }, cells }) => Cells.guarded.write(kernel, cells, Cells.guarded.read(kernel, cells) + 1));
      },
    ],
  },

  /** Reaches no point any more. */
  'hangs': {
    actors: [
      ({ host: { kernel }, cells }) => {
        Cells.m1.store(kernel, cells, 1);
        while (kernel.words[Cells.m1.address(kernel, cells) >>> 2] !== 3);
      },
      addFour,
    ],
  },

  /** Its thread ends in the middle of a schedule. */
  'dies': { actors: [addFour, () => process.exit(3)] },

  /** Catches everything, what the scheduler throws too, and goes on; and waits for ever once the others are gone. */
  'swallows': {
    actors: [
      ({ host: { kernel }, cells }) => {
        for (let tries = 0; tries < 3; tries++) {
          try {
            while (Cells.m2.load(kernel, cells) === 0) Cells.m1.add(kernel, cells, 1);
          } catch {
            Cells.m4.store(kernel, cells, tries);
          }
        }
      },
      ({ host: { kernel }, cells }) => {
        Cells.m3.store(kernel, cells, 1);
        throw new RangeError('leaves the other one alone');
      },
    ],
  },

  'busy-3x36': { actors: [busy, busy, busy] },

  /** One long actor, for what a point costs that keeps the baton. */
  'long': {
    actors: [
      ({ host: { kernel }, cells }) => {
        for (let i = 0; i < 1_000_000; i++) Cells.m1.store(kernel, cells, i);
      },
    ],
  },
};
