/** Locks that nobody else wants, taken and given back, against the two atomic operations that none can do without. */
import { door, lockLeaf, unlockLeaf } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { mutex, rwsem } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import type { Question } from '../question.ts';

const Locks = object('BenchLocks', { mutex, rwsem, leaf: u32, bare: u32 });

interface Place {
  readonly memory: Memory;
  readonly locks: Ref<'BenchLocks'>;
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
  return count + Locks.mutex.peek(memory, locks);
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

export default {
  asks: 'what does it cost to take and give back a lock that is free?',
  prepare(tiny) {
    const memory = Host.create(65_536, 65_536).kernel;
    const locks = Locks.create(memory);
    const place = { memory, locks };
    const operations = tiny ? 64 : 2048;
    const against = 'compareExchange and store';
    const index = Locks.bare.address(memory, locks) >>> 2;
    const leafAt = Locks.leaf.address(memory, locks);
    return {
      rows: [
        { name: against, operations, call: () => bare(place, index, operations) },
        { name: 'leaf lock', operations, against, call: () => leafLock(place, leafAt, operations) },
        { name: 'Mutex', operations, against, call: () => mutexes(place, operations) },
        { name: 'RwSem, read', operations, against, call: () => readers(place, operations) },
        { name: 'RwSem, write', operations, against, call: () => writers(place, operations) },
      ],
    };
  },
} satisfies Question;
