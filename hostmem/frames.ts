/**
 * Host frames: who owns each 4 KiB of RAM, in which generation, and how often it is pinned.
 *
 * The table lives in kernel memory, as `struct page` does. Freed frames are poisoned, so that a DMA or a walk through a
 * stale translation reads something recognisable. The allocator's lock is a leaf: allocation is no choice point.
 */
import { fill, lockLeaf, peek, setPage, silent, unlockLeaf } from './atomics.ts';
import { hpaOf, pageBytes, type Frame, type Memory } from './memory.ts';
import { struct, u32, words } from './struct.ts';

/** Who a frame belongs to: `FREE`, the kernel, page tables, or a process (its number, from `firstProcess`). */
export const Owner = { FREE: 0, KERNEL: 1, TABLE: 2, firstProcess: 16 } as const;

/**
 * Who may see what is in a frame, beside whose it is (AMD's RMP, Arm's granule table, the TD bit; SEMANTICS f.3): the low bits of a word,
 * above which stands the number of the guest.
 *
 *   HYPERVISOR -> PENDING, SHARED   when the frame is given to a confidential guest
 *   SHARED -> PENDING -> PRIVATE    the host assigns it, the guest accepts it       PRIVATE -> PENDING -> SHARED    blocked, then given up
 *   any -> HYPERVISOR               when it is freed
 */
export const Visibility = { HYPERVISOR: 0, SHARED: 1, PENDING: 2, PRIVATE: 3 } as const;
export type Visibility = (typeof Visibility)[keyof typeof Visibility];

/** The word of a guest's frame, and its parts. */
export const seenBy = (visibility: Visibility, guest: number): number => (guest << 4) | visibility;
export const visibilityOf = (word: number): Visibility => (word & 3) as Visibility;
export const guestOf = (word: number): number => word >>> 4;

/** What fills a freed frame. */
export const framePoison = 0x5afe5afe | 0;

/** Of a page. */
const zeroes = new Uint8Array(pageBytes);
const poisoned = new Uint8Array(new Int32Array(pageBytes / 4).fill(framePoison).buffer);

const FrameTable = struct('FrameTable', { lock: u32, free: u32, untouched: u32, frames: u32, inUse: u32, tableAt: u32, pad: words(2) });
/**
 * `references` counts those who keep the frame from being freed: mappings, and in steps of `pin` long-term pins, so that a pin is one
 * operation (the kernel's GUP_PIN_COUNTING_BIAS). Of a freed frame it is negative, `~next free frame`: a drop or hold too many is seen.
 */
const FrameRecord = struct('FrameRecord', { owner: u32, generation: u32, references: u32, visibility: u32 });
const pin = 1 << 12;
const mappings = pin - 1;

export class Frames {
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #at: number;
  readonly #table: number;

  /** A view of the table at `at` in kernel memory, set up before by `Frames.initialise`. */
  constructor(kernel: Memory, ram: Memory, at: number) {
    this.#kernel = kernel;
    this.#ram = ram;
    this.#at = at;
    this.#table = FrameTable.tableAt.peek(kernel, at);
  }

  /** Lays the table out at `at`; returns the first byte behind it. Frame 0 is never handed out. */
  static initialise(kernel: Memory, ram: Memory, at: number): number {
    const frames = ram.sizeBytes / pageBytes;
    const table = at + FrameTable.sizeBytes;
    FrameTable.frames.poke(kernel, at, frames);
    FrameTable.untouched.poke(kernel, at, 1);
    FrameTable.tableAt.poke(kernel, at, table);
    return table + frames * FrameRecord.sizeBytes;
  }

  /** A zeroed frame with one reference, or 0 when RAM is used up. */
  allocate(owner: number): Frame {
    const kernel = this.#kernel;
    if (kernel.faults !== null && kernel.faults.refuses('a frame')) return 0 as Frame;
    const at = this.#at;
    lockLeaf(kernel, at);
    let frame = FrameTable.free.peek(kernel, at);
    if (frame !== 0) FrameTable.free.poke(kernel, at, ~FrameRecord.references.peek(kernel, this.#record(frame)));
    else {
      frame = FrameTable.untouched.peek(kernel, at);
      if (frame >= FrameTable.frames.peek(kernel, at)) {
        unlockLeaf(kernel, at);
        return 0 as Frame;
      }
      FrameTable.untouched.poke(kernel, at, frame + 1);
    }
    FrameTable.inUse.poke(kernel, at, FrameTable.inUse.peek(kernel, at) + 1);
    const record = this.#record(frame);
    FrameRecord.owner.poke(kernel, record, owner);
    FrameRecord.references.poke(kernel, record, 1);
    unlockLeaf(kernel, at);
    setPage(this.#ram, hpaOf(frame as Frame), zeroes);
    return frame as Frame;
  }

  /**
   * As `allocate`, of so many consecutive frames, the first a multiple of `alignment`; 0 when there is no such place. Each is dropped
   * by itself. Looks at all of RAM: for what is made seldom.
   */
  allocateRun(owner: number, count: number, alignment: number): Frame {
    if (count === 1) return this.allocate(owner);
    const kernel = this.#kernel;
    lockLeaf(kernel, this.#at);
    let first = alignment;
    while (first + count <= this.count && !this.#isFreeRun(first, count)) first += alignment;
    const found = first + count <= this.count;
    if (found) this.#takeRun(first, count, owner);
    unlockLeaf(kernel, this.#at);
    if (!found) return 0 as Frame;
    fill(this.#ram, hpaOf(first as Frame), 4096 * count, 0);
    return first as Frame;
  }

  #isFreeRun(first: number, count: number): boolean {
    for (let frame = first; frame < first + count; frame++) {
      if (frame < FrameTable.untouched.peek(this.#kernel, this.#at) && this.ownerOf(frame as Frame) !== Owner.FREE) return false;
    }
    return true;
  }

  /** Takes the frames off the list of free ones; those that were never used and are passed over come onto it. */
  #takeRun(first: number, count: number, owner: number): void {
    const kernel = this.#kernel;
    const at = this.#at;
    const isTaken = (frame: number): boolean => frame >= first && frame < first + count;
    let kept = 0;
    let next = FrameTable.free.peek(kernel, at);
    while (next !== 0) {
      const frame = next;
      next = ~FrameRecord.references.peek(kernel, this.#record(frame));
      if (isTaken(frame)) continue;
      FrameRecord.references.poke(kernel, this.#record(frame), ~kept);
      kept = frame;
    }
    const untouched = FrameTable.untouched.peek(kernel, at);
    for (let frame = untouched; frame < first; frame++) {
      FrameRecord.references.poke(kernel, this.#record(frame), ~kept);
      kept = frame;
    }
    FrameTable.free.poke(kernel, at, kept);
    FrameTable.untouched.poke(kernel, at, Math.max(untouched, first + count));
    FrameTable.inUse.poke(kernel, at, FrameTable.inUse.peek(kernel, at) + count);
    for (let frame = first; frame < first + count; frame++) {
      FrameRecord.owner.poke(kernel, this.#record(frame), owner);
      FrameRecord.references.poke(kernel, this.#record(frame), 1);
    }
  }


  /** One more reference: another mapping or pin. */
  hold(frame: Frame): void {
    const before = this.#count(frame, 1);
    if (before >= 1 && (before & mappings) !== mappings) return;
    this.#count(frame, -1);
    throw new Error(`frame 0x${frame.toString(16)} was held ${before < 1 ? 'after it was freed' : `more than ${mappings} times`}`);
  }

  /** Drops a reference; the last one poisons and frees the frame. */
  drop(frame: Frame): void {
    const before = this.#count(frame, -1);
    if (before < 1 || (before & mappings) === 0) {
      this.#count(frame, 1);
      throw new Error(`frame 0x${frame.toString(16)} was dropped more often than held`);
    }
    if (before === 1) this.#free(frame);
  }

  #free(frame: Frame): void {
    const kernel = this.#kernel;
    const record = this.#record(frame);
    setPage(this.#ram, hpaOf(frame), poisoned);
    lockLeaf(kernel, this.#at);
    FrameRecord.owner.poke(kernel, record, Owner.FREE);
    FrameRecord.visibility.poke(kernel, record, Visibility.HYPERVISOR);
    FrameRecord.generation.poke(kernel, record, FrameRecord.generation.peek(kernel, record) + 1);
    FrameRecord.references.poke(kernel, record, ~FrameTable.free.peek(kernel, this.#at));
    FrameTable.free.poke(kernel, this.#at, frame);
    FrameTable.inUse.poke(kernel, this.#at, FrameTable.inUse.peek(kernel, this.#at) - 1);
    unlockLeaf(kernel, this.#at);
  }

  /** A long-term pin: the frame stays what it is until unpinned. */
  pin(frame: Frame): void {
    if (this.#count(frame, pin) >= 1) return;
    this.#count(frame, -pin);
    throw new Error(`frame 0x${frame.toString(16)} was pinned after it was freed`);
  }

  unpin(frame: Frame): void {
    const before = this.#count(frame, -pin);
    if (before < pin) {
      this.#count(frame, pin);
      throw new Error(`frame 0x${frame.toString(16)} was unpinned more often than pinned`);
    }
    if (before === pin) this.#free(frame);
  }

  ownerOf(frame: Frame): number {
    return FrameRecord.owner.peek(this.#kernel, this.#record(frame));
  }
  generationOf(frame: Frame): number {
    return FrameRecord.generation.peek(this.#kernel, this.#record(frame));
  }
  pinsOf(frame: Frame): number {
    return Math.max(0, FrameRecord.references.peek(this.#kernel, this.#record(frame)) >> 12);
  }

  /** Who may see it: `Visibility`, and the guest. Read by hardware for every access that it checks, changed for the guest: each is a point. */
  readVisibility(frame: Frame): number {
    return FrameRecord.visibility.load(this.#kernel, this.#record(frame));
  }
  writeVisibility(frame: Frame, word: number): void {
    FrameRecord.visibility.store(this.#kernel, this.#record(frame), word);
  }
  /** The same as no point: for oracles, and while a world is built. */
  peekVisibility(frame: Frame): number {
    return FrameRecord.visibility.peek(this.#kernel, this.#record(frame));
  }
  pokeVisibility(frame: Frame, word: number): void {
    FrameRecord.visibility.poke(this.#kernel, this.#record(frame), word);
  }

  /** Frames that are handed out at this moment. */
  get inUse(): number {
    return peek(this.#kernel, FrameTable.inUse.address(this.#kernel, this.#at));
  }
  get count(): number {
    return FrameTable.frames.peek(this.#kernel, this.#at);
  }

  /** Adds to the references and returns what they were. */
  #count(frame: number, delta: number): number {
    return silent.add(this.#kernel, this.#record(frame) + FrameRecord.references.offsetBytes, delta);
  }

  #record(frame: number): number {
    if (frame <= 0 || frame >= FrameTable.frames.peek(this.#kernel, this.#at)) throw new Error(`frame 0x${frame.toString(16)} is outside RAM`);
    return this.#table + frame * FrameRecord.sizeBytes;
  }
}

