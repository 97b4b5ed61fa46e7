/**
 * The engine of a VT-d unit's invalidation queue: fetches descriptors in order and carries them out, one a step.
 *
 *   IOTLB           moves the epoch on, drops the entries, and marks the transactions in flight (DR, DW)
 *   PASID IOTLB     the same for the first stage of one PASID; always drains
 *   PASID cache     drops entries; what follows, an IOTLB invalidation, drains
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
import * as descriptors from './descriptors.ts';
import { Bits, Descriptor, Granularity, PageBits } from './descriptors.ts';
import { changeFaultStatus } from './faults.ts';
import { PasidCacheView, pasidInvalidateLabel } from './pasid-cache.ts';
import { FaultStatus, GlobalStatus, largestOrderOf, supportsScalable, VtdRegisters, wideDescriptors } from './registers.ts';

const contextLabel = label('VtdQueue.contextCache');
const waitLabel = label('VtdQueue.wait');
const errorLabel = label('VtdQueue.error');

export class InvalidationQueue implements Engine {
  readonly name: string;
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'VtdRegisters'>;
  /** Byte addresses of registers: a unit lives as long as its host. */
  readonly #globalStatusAt: number;
  readonly #faultStatusAt: number;
  readonly #queueAddressAt: number;
  readonly #headAt: number;
  readonly #tailAt: number;
  readonly #helpingAt: number;
  readonly #iotlb: IotlbView;
  readonly #pasidCache: PasidCacheView;
  readonly #drain: Drain;
  readonly #largestOrder: number;
  readonly #scalable: boolean;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const kernel = host.kernel;
    this.name = `vtd${IommuUnit.number.peek(kernel, unit)}.queue`;
    this.#kernel = kernel;
    this.#ram = host.ram;
    const registers = IommuUnit.registers.peek(kernel, unit) as Ref<'VtdRegisters'>;
    this.#registers = registers;
    this.#globalStatusAt = VtdRegisters.globalStatus.address(kernel, registers);
    this.#faultStatusAt = VtdRegisters.faultStatus.address(kernel, registers);
    this.#queueAddressAt = VtdRegisters.queueAddress.address(kernel, registers);
    this.#headAt = VtdRegisters.queueHead.address(kernel, registers);
    this.#tailAt = VtdRegisters.queueTail.address(kernel, registers);
    this.#helpingAt = VtdRegisters.helping.address(kernel, registers);
    this.#iotlb = new IotlbView(kernel, IommuUnit.iotlb.peek(kernel, unit));
    this.#pasidCache = new PasidCacheView(kernel, IommuUnit.pasidCache.peek(kernel, unit));
    this.#drain = new Drain(kernel, unit);
    this.#scalable = supportsScalable(VtdRegisters.extendedCapability.peekHigh(kernel, registers));
    this.#largestOrder = largestOrderOf(VtdRegisters.capability.peekHigh(kernel, registers));
  }

  ready(): boolean {
    const kernel = this.#kernel;
    if ((peek(kernel, this.#globalStatusAt) & GlobalStatus.QUEUE_ENABLED) === 0) return false;
    if ((peek(kernel, this.#faultStatusAt) & FaultStatus.QUEUE_ERROR) !== 0) return false;
    if (peek(kernel, this.#headAt) === silent.load(kernel, this.#tailAt)) return false;
    return !this.#headIsWait() || this.#drain.done();
  }

  /** A wait works in RAM, at its status word; everything else where look-ups and fills are announced. */
  get memory(): Memory {
    return this.#headIsWait() ? this.#ram : this.#kernel;
  }

  at(): number {
    if (this.#headIsWait()) return this.#word(2) & ~3;
    return (this.#word(0) & Bits.typeMask) === Descriptor.PASID_CACHE ? this.#pasidCache.at : this.#iotlb.at;
  }

  label(): number {
    const first = this.#word(0);
    if (!descriptors.isWellFormed(first, this.#word(2), this.#largestOrder, this.#scalable)) return errorLabel;
    const type = first & Bits.typeMask;
    if (type === Descriptor.WAIT) return waitLabel;
    if (type === Descriptor.CONTEXT_CACHE) return contextLabel;
    return type === Descriptor.PASID_CACHE ? pasidInvalidateLabel : invalidateLabel;
  }

  step(): void {
    const first = this.#word(0);
    const third = this.#word(2);
    if (!descriptors.isWellFormed(first, third, this.#largestOrder, this.#scalable)) {
      changeFaultStatus(this.#kernel, this.#registers, FaultStatus.QUEUE_ERROR, 0);
      return;
    }
    const type = first & Bits.typeMask;
    if (type === Descriptor.IOTLB) this.#invalidateIotlb(first, third, this.#word(3));
    else if (type === Descriptor.PASID_IOTLB) this.#invalidatePasidIotlb(first, third, this.#word(3));
    else if (type === Descriptor.PASID_CACHE) this.#invalidatePasidCache(first);
    else if (type === Descriptor.WAIT && (first & Bits.waitStatusWrite) !== 0) silent.store(this.#ram, third & ~3, this.#word(1));
    this.#advance();
  }

  /** Free runs: carries out what is ready, unless another thread is already at it. */
  help(): void {
    const kernel = this.#kernel;
    if (kernel.control !== null || !this.ready()) return;
    if (silent.compareExchange(kernel, this.#helpingAt, 0, 1) !== 0) return;
    while (this.ready()) this.step();
    silent.store(kernel, this.#helpingAt, 0);
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

  #invalidatePasidIotlb(first: number, addressLow: number, addressHigh: number): void {
    const domainId = first >>> Bits.domainShift;
    const pasid = this.#word(1) & descriptors.pasidMask;
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    if (granularity === descriptors.PasidIotlbGranularity.PASID) this.#iotlb.invalidatePasid(domainId, pasid);
    else this.#iotlb.invalidatePasidPages(domainId, pasid, addressHigh, addressLow & ~4095, addressLow & PageBits.orderMask);
    this.#drain.mark(true, true);
  }

  #invalidatePasidCache(first: number): void {
    const domainId = first >>> Bits.domainShift;
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    if (granularity === descriptors.PasidCacheGranularity.GLOBAL) this.#pasidCache.invalidateAll();
    else if (granularity === descriptors.PasidCacheGranularity.DOMAIN) this.#pasidCache.invalidateDomain(domainId);
    else this.#pasidCache.invalidatePasid(domainId, this.#word(1) & descriptors.pasidMask);
  }

  #headIsWait(): boolean {
    return (this.#word(0) & Bits.typeMask) === Descriptor.WAIT;
  }

  /** A word of the descriptor at the head. */
  #word(index: number): number {
    const base = peek(this.#kernel, this.#queueAddressAt) & ~4095;
    return peek(this.#ram, base + peek(this.#kernel, this.#headAt) + index * 4);
  }

  #advance(): void {
    const kernel = this.#kernel;
    const address = peek(kernel, this.#queueAddressAt);
    const step = (address & wideDescriptors) === 0 ? descriptors.descriptorBytes : descriptors.wideDescriptorBytes;
    silent.store(kernel, this.#headAt, (peek(kernel, this.#headAt) + step) % (4096 << (address & 7)));
  }
}
