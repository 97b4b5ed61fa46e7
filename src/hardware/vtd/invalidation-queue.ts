/**
 * The engine of a VT-d unit's invalidation queue: fetches descriptors in order and carries them out, one a step.
 *
 *   IOTLB           moves the epoch on, drops entries and (but with IH) tables of the walk cache, marks the transactions in flight (DR, DW)
 *   PASID IOTLB     the same for the first stage of one PASID; always drains
 *   PASID cache     drops entries; what follows, an IOTLB invalidation, drains
 *   context cache   drops entries, as the PASID cache
 *   device TLB      sends the request to the function, possible only when that has taken the one before
 *   page answer     goes to the function that asked
 *   wait            possible only when every request was taken and the marked transactions have ended, with PD also when what was ahead of the functions' answers
 *                   lies in the queue of page requests; then the status word is written to RAM. It holds back what is behind it, which with FN it has to.
 *                   Where a function is gone and does not answer, time passes: FSTS.ITE, the wait is dropped, and the queue stops until software clears the bit
 *   anything else   FSTS.IQE, and the queue stops at it until software clears the bit
 *
 * It is a passive part: it runs when the scheduler picks it, or in a free run when somebody who waits helps.
 */
import { peek, silent } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { orderOfBlock } from '../atc.ts';
import { DeviceTlbs } from '../device-tlbs.ts';
import { Drain } from '../drain.ts';
import { invalidated } from '../events.ts';
import { firstStageTag, invalidateLabel, IotlbView } from '../iotlb.ts';
import { deliverAnswer, hasCome } from '../page-requests.ts';
import { takeInAll } from '../request-arrival.ts';
import { groupMask } from '../request-groups.ts';
import { IommuUnit } from '../unit.ts';
import { UnitFunctions } from '../unit-functions.ts';
import { WalkCache } from '../walk-cache.ts';
import * as descriptors from './descriptors.ts';
import { Bits, Descriptor, Granularity, PageBits } from './descriptors.ts';
import { changeFaultStatus } from './faults.ts';
import { ContextCache, contextInvalidateLabel, PasidCache, pasidInvalidateLabel } from './entry-caches.ts';
import { FaultStatus, GlobalStatus, largestOrderOf, supportsDeviceTlbs, supportsFirstStage, supportsPageRequests, supportsScalable, VtdRegisters, wideDescriptors } from './registers.ts';

const deviceTlbLabel = label('VtdQueue.deviceTlb');
const waitLabel = label('VtdQueue.wait');
const errorLabel = label('VtdQueue.error');

export class InvalidationQueue implements Engine {
  readonly name: string;
  readonly #number: number;
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
  readonly #walkCache: WalkCache;
  readonly #contextCache: ContextCache;
  readonly #pasidCache: PasidCache;
  readonly #deviceTlbs: DeviceTlbs;
  readonly #drain: Drain;
  readonly #unit: Ref<'IommuUnit'>;
  readonly #abilities: descriptors.QueueAbilities;
  /** `NULL` for a unit that takes no page requests. */
  readonly #requests: Ref<'PageRequests'>;
  /** Whether its caches may hold translations of a first stage. */
  readonly #hasFirstStage: boolean;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const kernel = host.kernel;
    this.#number = IommuUnit.number.peek(kernel, unit);
    this.name = `vtd${this.#number}.queue`;
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
    this.#walkCache = new WalkCache(kernel, IommuUnit.walkCache.peek(kernel, unit), this.#iotlb.at);
    this.#contextCache = new ContextCache(kernel, IommuUnit.contextCache.peek(kernel, unit));
    this.#pasidCache = new PasidCache(kernel, IommuUnit.pasidCache.peek(kernel, unit));
    const functions = new UnitFunctions(kernel, unit);
    this.#deviceTlbs = new DeviceTlbs(host, unit, functions);
    this.#drain = new Drain(kernel, functions);
    this.#unit = unit;
    this.#requests = IommuUnit.pageRequests.peek(kernel, unit);
    const extendedLow = VtdRegisters.extendedCapability.peek(kernel, registers);
    const extendedHigh = VtdRegisters.extendedCapability.peekHigh(kernel, registers);
    this.#abilities = {
      largestOrder: largestOrderOf(VtdRegisters.capability.peekHigh(kernel, registers)),
      scalable: supportsScalable(extendedHigh),
      deviceTlbs: supportsDeviceTlbs(extendedLow),
      pageRequests: supportsPageRequests(extendedLow),
    };
    this.#hasFirstStage = this.#abilities.scalable && supportsFirstStage(extendedHigh);
  }

  ready(): boolean {
    const kernel = this.#kernel;
    if ((peek(kernel, this.#globalStatusAt) & GlobalStatus.QUEUE_ENABLED) === 0) return false;
    if ((peek(kernel, this.#faultStatusAt) & (FaultStatus.QUEUE_ERROR | FaultStatus.TIME_OUT)) !== 0) return false;
    if (peek(kernel, this.#headAt) === silent.read(kernel, this.#tailAt)) return false;
    if (this.#headIsWait()) return this.#deviceTlbs.haveAnswered() && this.#drain.done() && this.#hasDrainedRequests();
    const target = this.#target();
    return target < 0 || this.#deviceTlbs.canSend(target);
  }

  /** What the wait at the head asks for beside the invalidations before it. */
  #hasDrainedRequests(): boolean {
    return (this.#word(0) & Bits.waitPageRequests) === 0 || this.#requests === NULL || hasCome(this.#kernel, this.#requests);
  }

  /** The requester that a device-TLB invalidation at the head is for; -1 for any other descriptor. */
  #target(): number {
    const first = this.#word(0);
    const type = first & Bits.typeMask;
    if (type === Descriptor.DEVICE_TLB) return this.#word(1) & 0xffff;
    return type === Descriptor.PASID_DEVICE_TLB ? first >>> 16 : -1;
  }

  /** A wait works in RAM, at its status word; everything else where look-ups and fills are announced. */
  get memory(): Memory {
    return this.#headIsWait() ? this.#ram : this.#kernel;
  }

  at(): number {
    if (this.#headIsWait()) return this.#word(2) & ~3;
    const type = this.#word(0) & Bits.typeMask;
    return type === Descriptor.CONTEXT_CACHE ? this.#contextCache.at : type === Descriptor.PASID_CACHE ? this.#pasidCache.at : this.#iotlb.at;
  }

  label(): number {
    const first = this.#word(0);
    if (!descriptors.isWellFormed(first, this.#word(2), this.#abilities)) return errorLabel;
    const type = first & Bits.typeMask;
    if (type === Descriptor.WAIT) return waitLabel;
    if (type === Descriptor.DEVICE_TLB || type === Descriptor.PASID_DEVICE_TLB) return deviceTlbLabel;
    if (type === Descriptor.CONTEXT_CACHE) return contextInvalidateLabel;
    return type === Descriptor.PASID_CACHE ? pasidInvalidateLabel : invalidateLabel;
  }

  step(): void {
    const first = this.#word(0);
    const third = this.#word(2);
    if (!descriptors.isWellFormed(first, third, this.#abilities)) {
      changeFaultStatus(this.#kernel, this.#registers, FaultStatus.QUEUE_ERROR, 0);
      return;
    }
    const type = first & Bits.typeMask;
    if (type === Descriptor.WAIT && this.#deviceTlbs.anyAwaited()) {
      this.#timeOut();
      return;
    }
    if (type === Descriptor.IOTLB) this.#invalidateIotlb(first, third, this.#word(3));
    else if (type === Descriptor.PASID_IOTLB) this.#invalidatePasidIotlb(first, third, this.#word(3));
    else if (type === Descriptor.CONTEXT_CACHE) this.#invalidateContextCache(first);
    else if (type === Descriptor.PASID_CACHE) this.#invalidatePasidCache(first);
    else if (type === Descriptor.DEVICE_TLB) this.#invalidateDeviceTlb(-1, descriptors.deviceTlbSize);
    else if (type === Descriptor.PASID_DEVICE_TLB) this.#invalidateDeviceTlb(this.#word(1) & descriptors.pasidMask, descriptors.pasidDeviceTlbSize);
    else if (type === Descriptor.PAGE_ANSWER) this.#answerPage(first, third);
    invalidated.emit(this.#kernel, this.#number, peek(this.#kernel, this.#headAt) / this.#entryBytes(), first);
    // Told before: whoever waits may go on from here.
    if (type === Descriptor.WAIT && (first & Bits.waitStatusWrite) !== 0) silent.release(this.#ram, third & ~3, this.#word(1));
    this.#advance();
  }

  /** Virtual time: whoever is there has answered. The head moves on, and nobody is told that the wait is over. */
  #timeOut(): void {
    const mute = this.#deviceTlbs.giveUp();
    if (mute < 0) return;
    VtdRegisters.timedOutSource.poke(this.#kernel, this.#registers, mute);
    changeFaultStatus(this.#kernel, this.#registers, FaultStatus.TIME_OUT, 0);
    this.#advance();
  }

  /** Free runs: carries out what is ready, unless another thread is already at it. */
  help(): void {
    const kernel = this.#kernel;
    if (kernel.control !== null) return;
    if (this.#requests !== NULL) takeInAll(kernel, this.#requests);
    if (!this.ready() && !this.#deviceTlbs.anyAwaited()) return;
    if (silent.compareExchange(kernel, this.#helpingAt, 0, 1) !== 0) return;
    for (;;) {
      this.#deviceTlbs.help();
      if (!this.ready()) break;
      this.step();
    }
    silent.release(kernel, this.#helpingAt, 0);
  }

  /** Tables first, then pages: a walk that began in a stale table cannot fill a page that is not dropped. Clears first, then marks: a transaction that is idle when it is looked at can only find what the clearing left. */
  #invalidateIotlb(first: number, addressLow: number, addressHigh: number): void {
    const domainId = first >>> Bits.domainShift;
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    const order = addressLow & PageBits.orderMask;
    if (granularity === Granularity.GLOBAL) {
      this.#walkCache.invalidateAll();
      this.#iotlb.invalidateAll();
    } else if (granularity === Granularity.DOMAIN) {
      this.#walkCache.invalidateDomain(domainId);
      this.#iotlb.invalidateDomain(domainId);
    } else {
      if ((addressLow & PageBits.leafOnly) === 0) this.#walkCache.invalidatePages(domainId, addressHigh, addressLow & ~4095, order, 0);
      this.#iotlb.invalidatePages(domainId, addressHigh, addressLow & ~4095, order);
      if (this.#hasFirstStage) this.#invalidateFirstStage(domainId);
    }
    this.#drain.mark((first & Bits.drainReads) !== 0, (first & Bits.drainWrites) !== 0);
  }

  /** What the address of a page-selective invalidation says of the first stage, or of both, is nothing: all of the domain goes (6.5.2.3). */
  #invalidateFirstStage(domainId: number): void {
    this.#walkCache.invalidateFirstStage(domainId);
    this.#iotlb.invalidateFirstStage(domainId);
  }

  #invalidatePasidIotlb(first: number, addressLow: number, addressHigh: number): void {
    const domainId = first >>> Bits.domainShift;
    const pasid = this.#word(1) & descriptors.pasidMask;
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    const order = addressLow & PageBits.orderMask;
    if (granularity === descriptors.PasidIotlbGranularity.PASID) {
      this.#walkCache.invalidatePasid(domainId, pasid);
      this.#iotlb.invalidatePasid(domainId, pasid);
    } else {
      if ((addressLow & PageBits.leafOnly) === 0) this.#walkCache.invalidatePages(domainId, addressHigh, addressLow & ~4095, order, firstStageTag | pasid);
      this.#iotlb.invalidatePasidPages(domainId, pasid, addressHigh, addressLow & ~4095, order);
    }
    this.#drain.mark(true, true);
  }

  #invalidateContextCache(first: number): void {
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    const source = this.#word(1);
    if (granularity === Granularity.GLOBAL) this.#contextCache.invalidateAll();
    else if (granularity === Granularity.DOMAIN) this.#contextCache.invalidateDomain(first >>> Bits.domainShift);
    else this.#contextCache.invalidateSource(source & 0xffff, (source >>> 16) & 3);
  }

  #invalidatePasidCache(first: number): void {
    const domainId = first >>> Bits.domainShift;
    const granularity = (first >>> Bits.granularityShift) & Bits.granularityMask;
    if (granularity === descriptors.PasidCacheGranularity.GLOBAL) this.#pasidCache.invalidateAll();
    else if (granularity === descriptors.PasidCacheGranularity.DOMAIN) this.#pasidCache.invalidateDomain(domainId);
    else this.#pasidCache.invalidatePasid(domainId, this.#word(1) & descriptors.pasidMask);
  }

  #invalidateDeviceTlb(pasid: number, sizeBit: number): void {
    const low = this.#word(2);
    const high = this.#word(3);
    this.#deviceTlbs.send(this.#target(), pasid, high, low & ~4095, (low & sizeBit) === 0 ? 0 : orderOfBlock(high, low));
  }

  #answerPage(first: number, third: number): void {
    const { codeShift, codeMask, sourceShift, groupShift } = descriptors.PageAnswerBits;
    deliverAnswer(this.#kernel, this.#unit, first >>> sourceShift, (third >>> groupShift) & groupMask, (first >>> codeShift) & codeMask);
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
    silent.release(kernel, this.#headAt, (peek(kernel, this.#headAt) + this.#entryBytes()) % (4096 << (address & 7)));
  }

  #entryBytes(): number {
    return (peek(this.#kernel, this.#queueAddressAt) & wideDescriptors) === 0 ? descriptors.descriptorBytes : descriptors.wideDescriptorBytes;
  }
}
