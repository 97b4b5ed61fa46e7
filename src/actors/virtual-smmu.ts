/**
 * A guest's virtual SMMUv3: its driver, in the guest's kernel, and the VMM's side, which hands the guest's commands over as they are. Its queues are those of
 * `virtual-vtd.ts` with commands of 16 bytes; where VT-d's PASID entry is, it has the context descriptor of the guest's devices.
 */
import { peek, poke } from '#hostmem/atomics';
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { commandBytes } from '../drivers/command-submitter.ts';
import { smmuInvalidateData } from '../drivers/smmuv3/viommu.ts';
import * as commands from '../hardware/smmuv3/commands.ts';
import { descriptorOf } from '../hardware/smmuv3/context-descriptor.ts';
import { recordOf, type SmmuRecord } from '../hardware/smmuv3/events.ts';
import { GuestMaps, GuestUnmapped } from '../kernel/events.ts';
import { read as readFile } from '../kernel/syscalls.ts';
import { highOf, lowOf, type Actor } from './actor.ts';
import { firstStageLevels, layFirstStage, setLeaf } from './guest-first-stage.ts';
import { GuestDriver } from './guest-iommu.ts';
import { VirtualQueue } from './virtual-queue.ts';
import { firstStageGpa } from './virtual-vtd.ts';
import type { Vm } from './vm.ts';

export const descriptorGpa = 0x5800;
const descriptorPage = Math.floor(descriptorGpa / pageBytes);
/** The guest's own name for its address space. */
const guestAsid = 1;
const format = smmuStage1(firstStageLevels);

/** `{ flags, sequence }` and a record of the hardware's event queue; and as many as are read at once. */
const headerBytes = 8;
const recordWords = 8;
const eventBytes = headerBytes + recordWords * 4;
const mostEvents = 4;

/** Makes empty tables and their descriptor, while a world is built. */
export function layStage1(host: Host, frames: Ref<'Run'>): void {
  layFirstStage(host, frames, firstStageGpa, format);
  const at = hpaOf(runGet(host.kernel, frames, descriptorPage) as Frame) + (descriptorGpa % pageBytes);
  descriptorOf(guestAsid, (firstStageGpa / pageBytes) as Frame).forEach((word, index) => poke(host.ram, at + index * 4, word));
}

/** Writes the leaf of a page: to a page of the guest, or with `null` to none. */
export function setStage1Leaf(host: Host, frames: Ref<'Run'>, iova: number, gpa: number | null): void {
  setLeaf(host, frames, iova, gpa, firstStageGpa, format);
}

export class SmmuGuestIommu extends GuestDriver {
  protected override readonly wait = commands.sync(0, 0)[0];
  readonly #frames: Ref<'Run'>;
  readonly #process: number;

  constructor(actor: Actor, guest: string) {
    super(actor, guest);
    this.#frames = actor.named(`${guest}.frames`) as Ref<'Run'>;
    this.#process = actor.kernel.processNumber;
  }

  map(iova: number, gpa: number): void {
    GuestMaps.emit(this.actor.host.kernel, this.#process, descriptorPage, highOf(iova), lowOf(iova), 1);
    setStage1Leaf(this.actor.host, this.#frames, iova, gpa);
  }

  /**
   * On return no device reaches the page through its IOVA. With a stream, another of the guest's drivers has meanwhile queued that the unit forget the
   * descriptor of that: the queue is one for all.
   */
  unmap(iova: number, forgottenStream?: number): void {
    setStage1Leaf(this.actor.host, this.#frames, iova, null);
    this.commands.push(...commands.invalidateVa(guestAsid, highOf(iova), lowOf(iova), true));
    if (forgottenStream !== undefined) this.commands.push(...commands.invalidateDescriptor(forgottenStream));
    this.ring();
    GuestUnmapped.emit(this.actor.host.kernel, this.#process, descriptorPage, highOf(iova), lowOf(iova), 1);
  }

  /** The oldest record of what went wrong in the guest's own stage 1; null when there is none. */
  takeFault(): SmmuRecord | null {
    const { ram } = this.actor.host;
    const record = this.requests.oldest();
    if (record === 0) return null;
    const words = Array.from({ length: recordWords }, (_, word) => peek(ram, record + word * 4));
    this.requests.advance();
    return recordOf(words);
  }
}

/** A vIOMMU object, and the descriptor of its event queue, if it has one. */
export interface SmmuForwarding {
  readonly iommufd: number;
  readonly viommu: number;
  readonly eventFd?: number;
}

export class SmmuQueue extends VirtualQueue {
  readonly #eventFd: number | null;

  constructor(vm: Vm, guest: string, { iommufd, viommu, eventFd }: SmmuForwarding) {
    super(vm, guest, iommufd, { target: viommu, dataType: smmuInvalidateData, entryBytes: commandBytes, refusals: ['EIO'] });
    this.#eventFd = eventFd ?? null;
  }

  protected override isWait(first: number): boolean {
    return commands.opcodeOf(first) === commands.Opcode.SYNC;
  }

  protected override carryOut(at: number): void {
    const { ram } = this.vm.host;
    this.take((entry) => {
      for (let offset = 0; offset < commandBytes; offset += 4) entry.setInt32(offset, peek(ram, at + offset), true);
    });
  }

  /** Records of the hardware, in which streams have the guest's numbers. One without a record says that some were lost. */
  protected override inject(): void {
    if (this.#eventFd === null) return;
    const read = readFile(this.vm.kernel, this.#eventFd, mostEvents * eventBytes);
    const events = new DataView(read.buffer, read.byteOffset, read.byteLength);
    for (let at = 0; at + eventBytes <= events.byteLength; at += eventBytes)
      this.requests.push(...Array.from({ length: recordWords }, (_, word) => events.getInt32(at + headerBytes + word * 4, true)));
  }
}
