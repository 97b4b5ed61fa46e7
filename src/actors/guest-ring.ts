/**
 * A ring in guest memory between a guest and its virtual IOMMU: one writes slots and moves the tail, the other reads them and moves the head. Each
 * side is one thread.
 */
import { poke, Until } from '#hostmem/atomics';
import type { WaitWord } from '#hostmem/locks';
import type { Actor } from './actor.ts';
import { guestAddress } from './guest-memory.ts';

export const slotBytes = 32;
const slots = 4096 / slotBytes;

/** Where a ring is, in guest addresses: its registers, which of them count its slots, and its one page of these. */
export interface RingPlace {
  readonly registersGpa: number;
  readonly tail: WaitWord;
  readonly head: WaitWord;
  readonly slotsGpa: number;
}

export class GuestRing {
  readonly #actor: Actor;
  readonly #guest: string;
  readonly #place: RingPlace;

  constructor(actor: Actor, guest: string, place: RingPlace) {
    this.#actor = actor;
    this.#guest = guest;
    this.#place = place;
  }

  /** Appends a slot, of eight words at most; those that are not given stay as they are. */
  push(...words: readonly number[]): void {
    const { ram } = this.#actor.host;
    const at = this.#registers();
    const tail = this.#place.tail.load(ram, at);
    const slot = this.#slot(tail);
    for (let word = 0; word < words.length; word++) poke(ram, slot + word * 4, words[word]!);
    this.#place.tail.store(ram, at, (tail + 1) % slots);
  }

  /** Host address of the oldest slot, which it waits for. */
  wait(): number {
    const { ram } = this.#actor.host;
    const at = this.#registers();
    const head = this.#place.head.load(ram, at);
    this.#actor.waitIdle(this.#place.tail, ram, at, Until.DIFFERENT, head);
    return this.#slot(head);
  }

  /** The same without waiting: 0 when there is none. */
  oldest(): number {
    const { ram } = this.#actor.host;
    const head = this.#place.head.load(ram, this.#registers());
    return this.#place.tail.load(ram, this.#registers()) === head ? 0 : this.#slot(head);
  }

  /** The oldest slot was read. */
  advance(): void {
    const { ram } = this.#actor.host;
    const at = this.#registers();
    this.#place.head.store(ram, at, (this.#place.head.load(ram, at) + 1) % slots);
  }

  #registers(): number {
    return guestAddress(this.#actor, this.#guest, this.#place.registersGpa);
  }

  #slot(number: number): number {
    return guestAddress(this.#actor, this.#guest, this.#place.slotsGpa + number * slotBytes);
  }
}
