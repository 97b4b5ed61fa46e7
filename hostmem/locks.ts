/**
 * Locks that live in shared memory: a mutex, a reader-writer semaphore, and a word that can be waited for.
 *
 * In a free run a thread that cannot go on sleeps on the word (futex style) and looks again every few seconds; in a
 * controlled run waiting is a condition on the word that the scheduler evaluates, and nobody sleeps.
 *
 *   mutex    0 free -> 1 held by acquire;  1 -> 2 held, someone sleeps;  1, 2 -> 0 by release
 *   rwsem    bits 0..15 readers, bit 16 a writer, bits 17..30 writers that wait, bit 31 someone sleeps
 */
import * as atomics from './atomics.ts';
import { Op, Until } from './atomics.ts';
import { labelText } from './labels.ts';
import type { Memory } from './memory.ts';
import { addressOf } from './object.ts';
import { Field, type FieldKind } from './struct.ts';

const readersMask = 0xffff;
const writer = 1 << 16;
const waitingWriter = 1 << 17;
const waitingWriters = 0x7ffe0000;
const sleepers = 0x80000000 | 0;

/** How often a lock is looked at before its waiter sleeps, as the kernel's optimistic spinning: some microseconds, which most sections end in. */
const spinsBeforeSleep = 1000;

/** A sleeping lock with one holder. */
export class Mutex extends Field {
  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }

  acquire(memory: Memory, at: number): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control === null) {
      if (atomics.silent.compareExchange(memory, address, 0, 1) !== 0) this.acquireSlowly(memory, address);
      return;
    }
    control.pointWhen(Op.LOCK, memory, address, this.label, -1, Until.EQUAL, 0);
    this.recheck(memory, at);
    atomics.poke(memory, address, 1);
    control.acquired(memory, address, this.label);
  }

  private acquireSlowly(memory: Memory, address: number): void {
    for (let spins = 0; spins < spinsBeforeSleep; spins++) {
      if (atomics.peek(memory, address) === 0 && atomics.silent.compareExchange(memory, address, 0, 1) === 0) return;
    }
    while (atomics.exchange(memory, address, 2, this.label) !== 0) atomics.sleepWhile(memory, address, 2);
  }

  release(memory: Memory, at: number): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control === null) {
      if (atomics.exchange(memory, address, 0, this.label) === 2) atomics.wake(memory, address, 1);
      return;
    }
    control.point(Op.UNLOCK, memory, address, this.label);
    this.recheck(memory, at);
    atomics.poke(memory, address, 0);
    control.released(memory, address);
  }

  /** Whether anybody holds it: for oracles at rest. */
  isHeld(memory: Memory, at: number): boolean {
    return this.peek(memory, at) !== 0;
  }
}

/** A reader-writer semaphore; readers queue behind a waiting writer. */
export class RwSem extends Field {
  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }

  acquireRead(memory: Memory, at: number): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control !== null) {
      control.pointWhen(Op.RLOCK, memory, address, this.label, writer | waitingWriters, Until.EQUAL, 0);
      this.recheck(memory, at);
      atomics.poke(memory, address, atomics.peek(memory, address) + 1);
      control.acquired(memory, address, this.label);
      return;
    }
    // Most often it is free. To read it first would bring its line here twice: once to be read, once to be written.
    let state = atomics.silent.compareExchange(memory, address, 0, 1);
    if (state === 0) return;
    for (let spins = 0; ; state = atomics.silent.load(memory, address), spins++) {
      if ((state & (writer | waitingWriters)) !== 0) {
        if (spins >= spinsBeforeSleep) this.sleep(memory, address, state);
      } else if (atomics.silent.compareExchange(memory, address, state, state + 1) === state) return;
    }
  }

  releaseRead(memory: Memory, at: number): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control !== null) {
      control.point(Op.RUNLOCK, memory, address, this.label);
      atomics.poke(memory, address, atomics.peek(memory, address) - 1);
      control.released(memory, address);
      return;
    }
    const before = atomics.silent.add(memory, address, -1);
    if ((before & readersMask) === 1 && (before & sleepers) !== 0) this.wakeAll(memory, address);
  }

  /** Free: one visible step. Else two: the writer's arrival, which holds back new readers, then the wait for the grant. */
  acquireWrite(memory: Memory, at: number): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control !== null) {
      control.point(Op.RMW, memory, address, this.label);
      this.recheck(memory, at);
      const state = atomics.peek(memory, address);
      if ((state & (writer | readersMask)) === 0) {
        atomics.poke(memory, address, state + writer);
        control.acquired(memory, address, this.label);
        return;
      }
      atomics.poke(memory, address, state + waitingWriter);
      control.pointWhen(Op.LOCK, memory, address, this.label, writer | readersMask, Until.EQUAL, 0);
      this.recheck(memory, at);
      atomics.poke(memory, address, atomics.peek(memory, address) - waitingWriter + writer);
      control.acquired(memory, address, this.label);
      return;
    }
    if (atomics.silent.compareExchange(memory, address, 0, writer) === 0) return;
    for (let spins = 0; spins < spinsBeforeSleep; spins++) {
      if (atomics.peek(memory, address) === 0 && atomics.silent.compareExchange(memory, address, 0, writer) === 0) return;
    }
    atomics.silent.add(memory, address, waitingWriter);
    for (;;) {
      const state = atomics.silent.load(memory, address);
      if ((state & (writer | readersMask)) !== 0) this.sleep(memory, address, state);
      else if (atomics.silent.compareExchange(memory, address, state, state - waitingWriter + writer) === state) return;
    }
  }

  releaseWrite(memory: Memory, at: number): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control !== null) {
      control.point(Op.UNLOCK, memory, address, this.label);
      atomics.poke(memory, address, atomics.peek(memory, address) - writer);
      control.released(memory, address);
      return;
    }
    const before = atomics.silent.add(memory, address, -writer);
    if ((before & sleepers) !== 0) this.wakeAll(memory, address);
  }

  /** Whether anybody has it: for oracles. */
  isHeld(memory: Memory, at: number): boolean {
    return (this.peek(memory, at) & (writer | readersMask)) !== 0;
  }

  /** Whether a writer has it: for oracles. */
  isHeldForWriting(memory: Memory, at: number): boolean {
    return (this.peek(memory, at) & writer) !== 0;
  }

  private sleep(memory: Memory, address: number, seen: number): void {
    const marked = seen | sleepers;
    if (seen !== marked && atomics.silent.compareExchange(memory, address, seen, marked) !== seen) return;
    atomics.sleepWhile(memory, address, marked);
  }

  private wakeAll(memory: Memory, address: number): void {
    for (;;) {
      const state = atomics.silent.load(memory, address);
      if ((state & sleepers) === 0) break;
      if (atomics.silent.compareExchange(memory, address, state, state & ~sleepers) === state) break;
    }
    atomics.wake(memory, address);
  }
}

/**
 * A word whose changes wake those who wait for it: completions, wait counts, doorbells, ring indices.
 * Two words: the value, and how many sleep on it in a free run.
 */
export class WaitWord extends Field {
  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }

  load(memory: Memory, at: number): number {
    const value = atomics.load(memory, this.address(memory, at), this.label);
    this.recheck(memory, at);
    return value;
  }
  store(memory: Memory, at: number, value: number): void {
    const address = this.address(memory, at);
    atomics.store(memory, address, value, this.label);
    this.wakeSleepers(memory, address);
  }
  /** Returns the value before. */
  add(memory: Memory, at: number, delta: number): number {
    const address = this.address(memory, at);
    const before = atomics.add(memory, address, delta, this.label);
    this.recheck(memory, at);
    this.wakeSleepers(memory, address);
    return before;
  }
  /** Adds unless the word is 0; returns the value before. Wakes nobody: to be counted in is no reason to wake. */
  addUnlessZero(memory: Memory, at: number, delta: number): number {
    const before = atomics.addUnlessZero(memory, this.address(memory, at), delta, this.label);
    this.recheck(memory, at);
    return before;
  }
  /** Returns the value found. */
  compareExchange(memory: Memory, at: number, expected: number, replacement: number): number {
    const address = this.address(memory, at);
    const found = atomics.compareExchange(memory, address, expected, replacement, this.label);
    if (found === expected) this.wakeSleepers(memory, address);
    return found;
  }
  /** For a word that nobody waits for: it wakes nobody, and who waits might sleep on while its condition is true (L4). */
  poke(memory: Memory, at: number, value: number): void {
    const address = this.address(memory, at);
    atomics.poke(memory, address, value);
    const { control } = memory;
    if (control !== null) control.changedUnwoken?.(memory, address, this.label);
    else if (atomics.silent.load(memory, address + 4) !== 0) throw new Error(`${labelText(this.label)} was changed, and who waits for it was not woken`);
  }

  /** Returns once `(word & mask)` is (`Until.EQUAL`) or is not (`Until.DIFFERENT`) `value`. Not interruptible. */
  waitUntil(memory: Memory, at: number, until: Until, value: number, mask: number = -1): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control !== null) {
      control.pointWhen(Op.WAIT, memory, address, this.label, mask, until, value);
      control.saw(atomics.peek(memory, address));
      return;
    }
    for (;;) {
      const seen = atomics.silent.load(memory, address);
      if (((seen & mask) === value) === (until === Until.EQUAL)) return;
      this.sleepWhile(memory, at, seen, undefined);
    }
  }

  /** Free runs: sleeps while the word is `seen`, up to `timeoutMs`; for callers whose wait can be interrupted. */
  sleepWhile(memory: Memory, at: number, seen: number, timeoutMs: number | undefined): void {
    const address = this.address(memory, at);
    atomics.silent.add(memory, address + 4, 1);
    atomics.sleepWhile(memory, address, seen, timeoutMs);
    atomics.silent.add(memory, address + 4, -1);
  }

  /** Behind an operation that is a fence: who counts itself in later sees the new value. */
  private wakeSleepers(memory: Memory, address: number): void {
    if (memory.control === null && atomics.silent.read(memory, address + 4) !== 0) atomics.wake(memory, address);
  }
}

export const mutex: FieldKind<Mutex> = { words: 1, bind: (place) => new Mutex(place) };
export const rwsem: FieldKind<RwSem> = { words: 1, bind: (place) => new RwSem(place) };
export const waitWord: FieldKind<WaitWord> = { words: 2, bind: (place) => new WaitWord(place) };
