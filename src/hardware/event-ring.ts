/**
 * A ring of records in one frame, in which a unit tells software what went wrong: AMD's event log, SMMUv3's event queue. What is not fetched in
 * time is lost, and the ring says that it was. Telling is no point: it happens within the step that found the fault.
 */
import { lockLeaf, peek, poke, unlockLeaf } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';

export const EventRing = object('EventRing', {
  /** 0 until software has given the unit a frame. */
  frame: u32,
  head: u32,
  tail: u32,
  overflowed: u32,
  lock: u32,
});

/** Adds a record; all records of a ring have the same length. */
export function tellEvent({ kernel, ram }: Host, ring: Ref<'EventRing'>, record: readonly number[]): void {
  const lock = EventRing.lock.address(kernel, ring);
  lockLeaf(kernel, lock);
  const frame = EventRing.frame.peek(kernel, ring) as Frame;
  const length = pageBytes / (record.length * 4);
  const tail = EventRing.tail.peek(kernel, ring);
  const next = (tail + 1) % length;
  if (frame !== 0 && EventRing.overflowed.peek(kernel, ring) === 0) {
    if (next === EventRing.head.peek(kernel, ring)) EventRing.overflowed.poke(kernel, ring, 1);
    else {
      const at = hpaOf(frame) + tail * record.length * 4;
      for (let word = 0; word < record.length; word++) poke(ram, at + word * 4, record[word]!);
      EventRing.tail.poke(kernel, ring, next);
    }
  }
  unlockLeaf(kernel, lock);
}

/** What software's handler does: fetches the records, oldest first, and lets the unit go on telling. */
export function takeEvents({ kernel, ram }: Pick<Host, 'kernel' | 'ram'>, ring: Ref<'EventRing'>, recordWords: number): number[][] {
  const lock = EventRing.lock.address(kernel, ring);
  const length = pageBytes / (recordWords * 4);
  const taken: number[][] = [];
  lockLeaf(kernel, lock);
  const tail = EventRing.tail.peek(kernel, ring);
  for (let head = EventRing.head.peek(kernel, ring); head !== tail; head = (head + 1) % length) {
    const at = hpaOf(EventRing.frame.peek(kernel, ring) as Frame) + head * recordWords * 4;
    taken.push(Array.from({ length: recordWords }, (_, word) => peek(ram, at + word * 4)));
  }
  EventRing.head.poke(kernel, ring, tail);
  EventRing.overflowed.poke(kernel, ring, 0);
  unlockLeaf(kernel, lock);
  return taken;
}
