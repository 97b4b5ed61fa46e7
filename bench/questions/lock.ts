/**
 * Locks that nobody else wants, taken and given back, against the two atomic operations that none can do without; one that two threads
 * want; and a word by which two threads send each other to sleep and wake each other.
 */
import { door, lockLeaf, unlockLeaf, Until } from '#hostmem/atomics';
import { Host, type HostBuffers } from '#hostmem/host';
import { mutex, rwsem, waitWord } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { Team } from '../team.ts';
import type { Question, Row } from '../question.ts';

const Locks = object('BenchLocks', { mutex, rwsem, leaf: u32, bare: u32, turn: waitWord });

interface Place {
  readonly memory: Memory;
  readonly locks: Ref<'BenchLocks'>;
}

/** What a thread beside the bench's own is told. */
interface Job {
  readonly buffers: HostBuffers;
  readonly locks: Ref<'BenchLocks'>;
  readonly takesTurns: boolean;
}

/** A thread of a team. */
export function work({ buffers, locks, takesTurns }: Job): (count: number) => number {
  const place = { memory: new Host(buffers).kernel, locks };
  return takesTurns ? (count) => takeTurns(place, 1, count) : (count) => mutexes(place, count);
}

function bare({ memory: { words }, locks }: Place, index: number, count: number): number {
  let taken = 0;
  for (let i = 0; i < count; i++) {
    if (door.compareExchange(words, index, 0, locks) === 0) taken++;
    door.store(words, index, 0);
  }
  return taken;
}

function leafLock({ memory }: Place, at: number, count: number): number {
  for (let i = 0; i < count; i++) {
    lockLeaf(memory, at);
    unlockLeaf(memory, at);
  }
  return count;
}

function mutexes({ memory, locks }: Place, count: number): number {
  for (let i = 0; i < count; i++) {
    Locks.mutex.acquire(memory, locks);
    Locks.mutex.release(memory, locks);
  }
  return count;
}

function readers({ memory, locks }: Place, count: number): number {
  for (let i = 0; i < count; i++) {
    Locks.rwsem.acquireRead(memory, locks);
    Locks.rwsem.releaseRead(memory, locks);
  }
  return count + Locks.rwsem.peek(memory, locks);
}

function writers({ memory, locks }: Place, count: number): number {
  for (let i = 0; i < count; i++) {
    Locks.rwsem.acquireWrite(memory, locks);
    Locks.rwsem.releaseWrite(memory, locks);
  }
  return count + Locks.rwsem.peek(memory, locks);
}

/** Waits for its own turn of two and gives the other one its turn. */
function takeTurns({ memory, locks }: Place, own: number, count: number): number {
  for (let i = 0; i < count; i++) {
    Locks.turn.waitUntil(memory, locks, Until.EQUAL, own);
    Locks.turn.store(memory, locks, 1 - own);
  }
  return count;
}

/** Rows of more than one thread. */
function rowsTogether({ host, locks }: { host: Host; locks: Ref<'BenchLocks'> }, tiny: boolean, threads: number): { rows: Row[]; teams: Team[] } {
  const module = new URL('./lock.js', import.meta.url).href;
  const job = (takesTurns: boolean): Job => ({ buffers: host.buffers, locks, takesTurns });
  const wanting = new Team(module, Array.from({ length: threads }, () => job(false)));
  const partner = new Team(module, [job(true)]);
  const place = { memory: host.kernel, locks };
  const [several, turns] = tiny ? [16, 4] : [1024, 100];
  const contended = (): { value: number; checksum: number } => {
    const { seconds, made, sum } = wanting.steady(several, tiny ? 5 : 60);
    return { value: (seconds * 1e9) / made.reduce((all, one) => all + one, 0), checksum: sum };
  };
  const rows: Row[] = [
    { name: 'contended', against: 'uncontended', sample: contended },
    { name: 'hand-off', operations: 2 * turns, against: 'uncontended', call: () => partner.run((count) => takeTurns(place, 0, count), turns) },
  ];
  return { rows, teams: [wanting, partner] };
}

export default {
  asks: 'what does it cost to take and give back a lock that is free, one that another thread wants, and to wait for each other?',
  prepare(tiny, { threads }) {
    const host = Host.create(65_536, 65_536);
    const memory = host.kernel;
    const locks = Locks.create(memory);
    const place = { memory, locks };
    const operations = tiny ? 64 : 2048;
    const against = 'compareExchange and store';
    const index = Locks.bare.address(memory, locks) >>> 2;
    const leafAt = Locks.leaf.address(memory, locks);
    const { rows, teams } = rowsTogether({ host, locks }, tiny, threads);
    return {
      rows: [
        { name: against, operations, call: () => bare(place, index, operations) },
        { name: 'uncontended', operations, against, call: () => mutexes(place, operations) },
        { name: 'uncontended/leaf', operations, against, call: () => leafLock(place, leafAt, operations) },
        { name: 'uncontended/rwsem-read', operations, against, call: () => readers(place, operations) },
        { name: 'uncontended/rwsem-write', operations, against, call: () => writers(place, operations) },
        ...rows,
      ],
      within(measure) {
        measure();
        for (const team of teams) team.end();
      },
    };
  },
} satisfies Question;
