/**
 * The engine of a ring of commands as AMD and SMMUv3 have it: fetches them in order and carries them out, one a step.
 *
 *   an invalidation   moves the epoch on and drops lines
 *   a wait            first marks the transactions in flight, then is possible only when they have ended; then writes where it is told to
 *   an illegal one    is told of in the vendor's way, and the ring stops at it until software clears `stopped`
 *
 * Head and tail are numbers of commands; the wrap bits that SMMUv3 adds to them are left out, and a full ring has one command less. It is a
 * passive part: it runs when the scheduler picks it, or in a free run when somebody who waits helps.
 */
import { peek, poke, silent } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { Drain } from './drain.ts';
import { invalidated } from './events.ts';
import { invalidateLabel, IotlbView } from './iotlb.ts';
import { IommuUnit } from './unit.ts';
import { UnitFunctions } from './unit-functions.ts';

export const commandBytes = 16;
/** One frame of them. */
export const ringLength = pageBytes / commandBytes;

export const UnitCommandRing = object('UnitCommandRing', {
  /** 0 until software has given the unit a frame. */
  frame: u32,
  head: u32,
  tail: u32,
  /** Not 0 after an illegal command. */
  stopped: u32,
  /** Not 0 while a wait is at the head that has found transactions in flight. */
  draining: u32,
  /** Leaf lock of the threads that help in a free run. */
  helping: u32,
});

const waitLabel = label('UnitCommandRing.wait');
const errorLabel = label('UnitCommandRing.error');

export abstract class CommandEngine implements Engine {
  readonly name: string;
  readonly ring: Ref<'UnitCommandRing'>;
  protected readonly host: Host;
  protected readonly iotlb: IotlbView;
  readonly #number: number;
  readonly #kernel: Memory;
  readonly #drain: Drain;
  readonly #tailAt: number;

  constructor(host: Host, unit: Ref<'IommuUnit'>, vendor: string, ring: Ref<'UnitCommandRing'>) {
    const kernel = host.kernel;
    this.host = host;
    this.ring = ring;
    this.#kernel = kernel;
    this.#number = IommuUnit.number.peek(kernel, unit);
    this.name = `${vendor}${this.#number}.commands`;
    this.iotlb = new IotlbView(kernel, IommuUnit.iotlb.peek(kernel, unit));
    this.#drain = new Drain(kernel, new UnitFunctions(kernel, unit));
    this.#tailAt = UnitCommandRing.tail.address(kernel, ring);
  }

  /** Of the command at the head. */
  protected abstract isLegal(): boolean;
  protected abstract isWait(): boolean;
  /** Byte address, below 4 GiB, of what a wait writes, and the word or two; address 0 for one that writes nothing. */
  protected abstract waitAddress(): number;
  protected abstract waitData(): readonly [low: number, high: number | null];
  protected abstract invalidate(): void;
  /** Tells software of a command that is none. */
  protected abstract refuse(): void;

  ready(): boolean {
    const kernel = this.#kernel;
    if (UnitCommandRing.frame.peek(kernel, this.ring) === 0 || UnitCommandRing.stopped.peek(kernel, this.ring) !== 0) return false;
    if (UnitCommandRing.head.peek(kernel, this.ring) === silent.load(kernel, this.#tailAt)) return false;
    return UnitCommandRing.draining.peek(kernel, this.ring) === 0 || this.#drain.done();
  }

  /** A wait works in RAM once it writes; everything else where look-ups and fills are announced. */
  get memory(): Memory {
    return this.#isWrite() ? this.host.ram : this.#kernel;
  }

  at(): number {
    return this.#isWrite() ? this.waitAddress() : this.iotlb.at;
  }

  label(): number {
    if (!this.isLegal()) return errorLabel;
    return this.isWait() ? waitLabel : invalidateLabel;
  }

  step(): void {
    const kernel = this.#kernel;
    if (!this.isLegal()) {
      UnitCommandRing.stopped.poke(kernel, this.ring, 1);
      this.refuse();
      return;
    }
    const head = UnitCommandRing.head.peek(kernel, this.ring);
    const isWait = this.isWait();
    if (isWait && !this.#isDrained()) return;
    if (!isWait) this.invalidate();
    invalidated.emit(kernel, this.#number, head, this.word(0));
    if (isWait) this.#write();
    UnitCommandRing.head.poke(kernel, this.ring, (head + 1) % ringLength);
  }

  /** Free runs: carries out what is ready, unless another thread is already at it. */
  help(): void {
    const kernel = this.#kernel;
    const helpingAt = UnitCommandRing.helping.address(kernel, this.ring);
    if (kernel.control !== null || !this.ready()) return;
    if (silent.compareExchange(kernel, helpingAt, 0, 1) !== 0) return;
    while (this.ready()) this.step();
    silent.store(kernel, helpingAt, 0);
  }

  /** A word of the command at the head. */
  protected word(index: number): number {
    const frame = UnitCommandRing.frame.peek(this.#kernel, this.ring) as Frame;
    return peek(this.host.ram, hpaOf(frame) + UnitCommandRing.head.peek(this.#kernel, this.ring) * commandBytes + index * 4);
  }

  /** A wait takes two steps: what was in flight at the first one has ended by the second. */
  #isDrained(): boolean {
    const kernel = this.#kernel;
    const marked = UnitCommandRing.draining.peek(kernel, this.ring) !== 0;
    if (!marked) this.#drain.mark(true, true);
    UnitCommandRing.draining.poke(kernel, this.ring, marked ? 0 : 1);
    return marked;
  }

  #isWrite(): boolean {
    return this.isLegal() && this.isWait() && this.waitAddress() !== 0 && UnitCommandRing.draining.peek(this.#kernel, this.ring) !== 0;
  }

  #write(): void {
    const at = this.waitAddress();
    if (at === 0) return;
    const [low, high] = this.waitData();
    if (high !== null) poke(this.host.ram, at + 4, high);
    silent.store(this.host.ram, at, low);
  }
}
