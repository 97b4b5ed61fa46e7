/**
 * The driver of a guest's virtual VT-d unit, in the guest's kernel: DMA mappings in a first stage of its own, and strict unmaps, which return when
 * the unit has said that it forgot them (`virtual-vtd.ts`; SEMANTICS d.2 Q1). What any virtual unit has, a wait, is in `GuestDriver`.
 */
import { peek, poke, Until } from '#hostmem/atomics';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { groupMask } from '../hardware/request-groups.ts';
import { Bits, Descriptor, PageAnswerBits, PageBits, PasidCacheGranularity, PasidIotlbGranularity } from '../hardware/vtd/descriptors.ts';
import { firstStageWord0, firstStageWord2 } from '../hardware/vtd/scalable-entry.ts';
import { GuestMaps, GuestUnmapped } from '../kernel/events.ts';
import { highOf, lowOf, type Actor } from './actor.ts';
import { firstStageLevels, setLeaf } from './guest-first-stage.ts';
import { guestAddress } from './guest-memory.ts';
import { GuestRing } from './guest-ring.ts';
import { commandRing, firstStageGpa, guestDomainId, pasidEntryGpa, requestRing, ridPasid, statusGpa, WaitStatus, windowIova, windowPages } from './virtual-vtd.ts';

/** A page that a device has asked for, and its group. */
export interface AskedPage {
  readonly iova: number;
  readonly group: number;
}

/** For one thread of the guest: the queues have no lock. */
export class GuestDriver {
  protected readonly actor: Actor;
  protected readonly commands: GuestRing;
  protected readonly requests: GuestRing;
  protected readonly guest: string;
  /** The first word of a wait; in all units its second is what it writes, and its third where. */
  protected readonly wait: number = Descriptor.WAIT | Bits.waitStatusWrite;

  constructor(actor: Actor, guest: string) {
    this.actor = actor;
    this.guest = guest;
    this.commands = new GuestRing(actor, guest, commandRing);
    this.requests = new GuestRing(actor, guest, requestRing);
  }

  /** A wait, and the wait for it: on return the unit has done what was queued before, and has told what there was to tell. */
  ring(): void {
    const { ram } = this.actor.host;
    const status = guestAddress(this.actor, this.guest, statusGpa);
    const done = (WaitStatus.word.load(ram, status) + 1) | 0;
    this.commands.push(this.wait, done, statusGpa, 0);
    this.actor.waitIdle(WaitStatus.word, ram, status, Until.EQUAL, done);
  }
}

/** The first word of an invalidation of the guest's domain. */
const ofDomain = (type: number, granularity: number): number => type | (granularity << Bits.granularityShift) | (guestDomainId << Bits.domainShift);

export class GuestIommu extends GuestDriver {
  readonly #frames: Ref<'Run'>;
  readonly #process: number;
  /** Where the tables are that the device goes through. */
  #rootGpa = firstStageGpa;

  constructor(actor: Actor, guest: string) {
    super(actor, guest);
    this.#frames = actor.named(`${guest}.frames`) as Ref<'Run'>;
    this.#process = actor.kernel.processNumber;
  }

  /** What was not present is in no cache: nothing has to be told to the unit. */
  map(iova: number, gpa: number): void {
    GuestMaps.emit(this.actor.host.kernel, this.#process, this.#rootGpa / 4096, highOf(iova), lowOf(iova), 1);
    setLeaf(this.actor.host, this.#frames, iova, gpa, this.#rootGpa);
  }

  /** On return no device reaches the page through its IOVA. */
  unmap(iova: number): void {
    setLeaf(this.actor.host, this.#frames, iova, null, this.#rootGpa);
    this.commands.push(ofDomain(Descriptor.PASID_IOTLB, PasidIotlbGranularity.SELECTED), ridPasid, lowOf(iova) | PageBits.leafOnly, highOf(iova));
    this.ring();
    GuestUnmapped.emit(this.actor.host.kernel, this.#process, this.#rootGpa / 4096, highOf(iova), lowOf(iova), 1);
  }

  /** The device goes through other tables of the guest: on return it reaches nothing through those that it had (Q5, of the guest). */
  enter(rootGpa: number): void {
    const { kernel, ram } = this.actor.host;
    const window = [highOf(windowIova), lowOf(windowIova), windowPages] as const;
    GuestMaps.emit(kernel, this.#process, rootGpa / 4096, ...window);
    const entry = guestAddress(this.actor, this.guest, pasidEntryGpa);
    poke(ram, entry, firstStageWord0(firstStageLevels));
    poke(ram, entry + 16, firstStageWord2((rootGpa / 4096) as Frame, firstStageLevels));
    this.commands.push(ofDomain(Descriptor.PASID_CACHE, PasidCacheGranularity.PASID), ridPasid, 0, 0);
    this.commands.push(ofDomain(Descriptor.PASID_IOTLB, PasidIotlbGranularity.PASID), ridPasid, 0, 0);
    this.ring();
    GuestUnmapped.emit(kernel, this.#process, this.#rootGpa / 4096, ...window);
    this.#rootGpa = rootGpa;
  }

  /** The oldest page request that the VMM has put into the guest's queue; null when there is none. */
  takeRequest(): AskedPage | null {
    const { ram } = this.actor.host;
    const record = this.requests.oldest();
    if (record === 0) return null;
    const low = peek(ram, record + 8);
    const asked = { iova: (peek(ram, record + 12) >>> 0) * 2 ** 32 + ((low & ~4095) >>> 0), group: (low >>> PageAnswerBits.groupShift) & groupMask };
    this.requests.advance();
    return asked;
  }

  /** Answers a group with a code of PRI. */
  answer({ group }: AskedPage, code: number): void {
    this.commands.push(Descriptor.PAGE_ANSWER | (code << PageAnswerBits.codeShift), 0, group << PageAnswerBits.groupShift, 0);
    this.ring();
  }
}
