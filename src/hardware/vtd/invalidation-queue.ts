/**
 * The engine of a VT-d unit's invalidation queue: fetches descriptors in order and carries them out, one a step.
 *
 *   IOTLB           moves the epoch on, drops the entries, and marks the transactions in flight (DR, DW)
 *   context cache   nothing to drop: this unit reads context entries anew (`requester.ts`)
 *   wait            possible only when the marked transactions have ended; then the status word is written to RAM
 *   anything else   FSTS.IQE, and the queue stops at it until software clears the bit
 *
 * It is a passive part: it runs when the scheduler picks it, or in a free run when somebody who waits helps.
 */
import { peek, silent } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Drain } from '../drain.ts';
import { invalidateLabel, IotlbView } from '../iotlb.ts';
import { IommuUnit } from '../unit.ts';
import { Bits, Descriptor, descriptorBytes, Granularity, isWellFormed, PageBits } from './descriptors.ts';
import { FaultStatus, GlobalStatus, largestOrderOf, VtdRegisters } from './registers.ts';

const contextLabel = label('VtdQueue.contextCache');
const waitLabel = label('VtdQueue.wait');
const errorLabel = label('VtdQueue.error');

export class InvalidationQueue implements Engine {
  readonly name: string;
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'VtdRegisters'>;
  readonly #iotlb: IotlbView;
  readonly #drain: Drain;
  readonly #largestOrder: number;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const kernel = host.kernel;
    this.name = `vtd${IommuUnit.number.peek(kernel, unit)}.queue`;
    this.#kernel = kernel;
    this.#ram = host.ram;
    this.#registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
    this.#iotlb = new IotlbView(kernel, IommuUnit.iotlb.peek(kernel, unit));
    this.#drain = new Drain(kernel, unit);
    this.#largestOrder = largestOrderOf(VtdRegisters.capability.peekHigh(kernel, this.#registers));
  }

  ready(): boolean {
    const kernel = this.#kernel;
    const registers = this.#registers;
    if ((VtdRegisters.globalStatus.peek(kernel, registers) & GlobalStatus.QUEUE_ENABLED) === 0) return false;
    if ((VtdRegisters.faultStatus.peek(kernel, registers) & FaultStatus.QUEUE_ERROR) !== 0) return false;
    const tail = silent.load(kernel, VtdRegisters.queueTail.address(kernel, registers));
    if (VtdRegisters.queueHead.peek(kernel, registers) === tail) return false;
    return !this.#headIsWait() || this.#drain.done();
  }

  /** A wait works in RAM, at its status word; everything else where look-ups and fills are announced. */
  get memory(): Memory {
    return this.#headIsWait() ? this.#ram : this.#kernel;
  }

  at(): number {
    return this.#headIsWait() ? this.#word(2) & ~3 : this.#iotlb.at;
  }

  label(): number {
    const first = this.#word(0);
    if (!isWellFormed(first, this.#word(2), this.#largestOrder)) return errorLabel;
    const type = first & Bits.typeMask;
    return type === Descriptor.WAIT ? waitLabel : type === Descriptor.IOTLB ? invalidateLabel : contextLabel;
  }

  step(): void {
    const first = this.#word(0);
    const third = this.#word(2);
    if (!isWellFormed(first, third, this.#largestOrder)) {
      const status = VtdRegisters.faultStatus.peek(this.#kernel, this.#registers);
      VtdRegisters.faultStatus.poke(this.#kernel, this.#registers, status | FaultStatus.QUEUE_ERROR);
      return;
    }
    const type = first & Bits.typeMask;
    if (type === Descriptor.IOTLB) this.#invalidateIotlb(first, third, this.#word(3));
    else if (type === Descriptor.WAIT && (first & Bits.waitStatusWrite) !== 0) silent.store(this.#ram, third & ~3, this.#word(1));
    this.#advance();
  }

  /** Free runs: carries out what is ready, unless another thread is already at it. */
  help(): void {
    const kernel = this.#kernel;
    if (kernel.control !== null || !this.ready()) return;
    const helping = VtdRegisters.helping.address(kernel, this.#registers);
    if (silent.compareExchange(kernel, helping, 0, 1) !== 0) return;
    while (this.ready()) this.step();
    silent.store(kernel, helping, 0);
  }

  /** Clears first, then marks: a transaction that is idle when it is looked at can only find what the clearing left. */
  #invalidateIotlb(first: number, addressLow: number, addressHigh: number): void {
    const domainId = first >>> Bits.domainShift;
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    if (granularity === Granularity.GLOBAL) this.#iotlb.invalidateAll();
    else if (granularity === Granularity.DOMAIN) this.#iotlb.invalidateDomain(domainId);
    else this.#iotlb.invalidatePages(domainId, addressHigh, addressLow & ~4095, addressLow & PageBits.orderMask);
    this.#drain.mark((first & Bits.drainReads) !== 0, (first & Bits.drainWrites) !== 0);
  }

  #headIsWait(): boolean {
    return (this.#word(0) & Bits.typeMask) === Descriptor.WAIT;
  }

  /** A word of the descriptor at the head. */
  #word(index: number): number {
    const base = VtdRegisters.queueAddress.peek(this.#kernel, this.#registers) & ~4095;
    return peek(this.#ram, base + VtdRegisters.queueHead.peek(this.#kernel, this.#registers) + index * 4);
  }

  #advance(): void {
    const kernel = this.#kernel;
    const sizeBytes = 4096 << (VtdRegisters.queueAddress.peek(kernel, this.#registers) & 7);
    const next = (VtdRegisters.queueHead.peek(kernel, this.#registers) + descriptorBytes) % sizeBytes;
    silent.store(kernel, VtdRegisters.queueHead.address(kernel, this.#registers), next);
  }
}
