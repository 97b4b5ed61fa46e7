/**
 * The driver of a guest's virtual VT-d unit, in the guest's kernel: DMA mappings in a first stage of its own, and strict unmaps, which return when
 * the unit has said that it forgot them (`virtual-vtd.ts`; SEMANTICS d.2 Q1).
 */
import { peek, poke, Until } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import { Bits, Descriptor, PageAnswerBits, PageBits, PasidIotlbGranularity } from '../hardware/vtd/descriptors.ts';
import { GuestMaps, GuestUnmapped } from '../kernel/events.ts';
import { Actor, highOf, lowOf } from './actor.ts';
import { setLeaf } from './guest-first-stage.ts';
import { guestAddress } from './guest-memory.ts';
import { firstStageGpa, guestDomainId, queueGpa, registersGpa, requestsGpa, ridPasid, slotBytes, slots, statusGpa, VirtualVtd, WaitStatus } from './virtual-vtd.ts';

/** Of a group's number, in a record. */
const groupMask = 511;

/** A page that a device has asked for, and its group. */
export interface AskedPage {
  readonly iova: number;
  readonly group: number;
}

export class GuestIommu {
  readonly #actor: Actor;
  readonly #guest: string;
  readonly #frames: Ref<'Run'>;
  readonly #process: number;

  /** For one thread of the guest: its queue has no lock. */
  constructor(actor: Actor, guest: string) {
    this.#actor = actor;
    this.#guest = guest;
    this.#frames = actor.named(`${guest}.frames`) as Ref<'Run'>;
    this.#process = actor.kernel.processNumber;
  }

  /** What was not present is in no cache: nothing has to be told to the unit. */
  map(iova: number, gpa: number): void {
    GuestMaps.emit(this.#actor.host.kernel, this.#process, firstStageGpa / 4096, highOf(iova), lowOf(iova), 1);
    setLeaf(this.#actor.host, this.#frames, iova, gpa);
  }

  /** On return no device reaches the page through its IOVA. */
  unmap(iova: number): void {
    setLeaf(this.#actor.host, this.#frames, iova, null);
    const page = Descriptor.PASID_IOTLB | (PasidIotlbGranularity.SELECTED << Bits.granularityShift) | (guestDomainId << Bits.domainShift);
    this.#queue(page, ridPasid, lowOf(iova) | PageBits.leafOnly, highOf(iova));
    this.#wait();
    GuestUnmapped.emit(this.#actor.host.kernel, this.#process, firstStageGpa / 4096, highOf(iova), lowOf(iova), 1);
  }

  /** Several at once, with one invalidation of all that the guest has mapped. */
  unmapAll(iovas: readonly number[]): void {
    for (const iova of iovas) setLeaf(this.#actor.host, this.#frames, iova, null);
    this.#queue(Descriptor.PASID_IOTLB | (PasidIotlbGranularity.PASID << Bits.granularityShift) | (guestDomainId << Bits.domainShift), ridPasid, 0, 0);
    this.#wait();
    for (const iova of iovas) GuestUnmapped.emit(this.#actor.host.kernel, this.#process, firstStageGpa / 4096, highOf(iova), lowOf(iova), 1);
  }

  /** A wait alone: on return the VMM has looked for page requests that were there before. */
  ring(): void {
    this.#wait();
  }

  /** The oldest page request that the VMM has put into the guest's queue; null when there is none. */
  takeRequest(): AskedPage | null {
    const { ram } = this.#actor.host;
    const at = this.#address(registersGpa);
    const head = VirtualVtd.requestHead.load(ram, at);
    if (VirtualVtd.requestTail.load(ram, at) === head) return null;
    const record = this.#address(requestsGpa + head * slotBytes);
    const low = peek(ram, record + 8);
    const asked = { iova: (peek(ram, record + 12) >>> 0) * 2 ** 32 + ((low & ~4095) >>> 0), group: (low >>> PageAnswerBits.groupShift) & groupMask };
    VirtualVtd.requestHead.store(ram, at, (head + 1) % slots);
    return asked;
  }

  /** Answers a group with a code of PRI. */
  answer({ group }: AskedPage, code: number): void {
    this.#queue(Descriptor.PAGE_ANSWER | (code << PageAnswerBits.codeShift), 0, group << PageAnswerBits.groupShift, 0);
    this.#wait();
  }

  /** A wait, and the wait for it. */
  #wait(): void {
    const { ram } = this.#actor.host;
    const status = this.#address(statusGpa);
    const done = (WaitStatus.word.load(ram, status) + 1) | 0;
    this.#queue(Descriptor.WAIT | Bits.waitStatusWrite, done, statusGpa, 0);
    this.#actor.waitIdle(WaitStatus.word, ram, status, Until.EQUAL, done);
  }

  #queue(first: number, second: number, third: number, fourth: number): void {
    const { ram } = this.#actor.host;
    const at = this.#address(registersGpa);
    const tail = VirtualVtd.queueTail.load(ram, at);
    const slot = this.#address(queueGpa + tail * slotBytes);
    [first, second, third, fourth].forEach((word, index) => poke(ram, slot + index * 4, word));
    VirtualVtd.queueTail.store(ram, at, (tail + 1) % slots);
  }

  #address(gpa: number): number {
    return guestAddress(this.#actor, this.#guest, gpa);
  }
}
