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
import { GuestMaps, GuestUnmapped } from '../kernel/events.ts';
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
   * On return no device reaches the page through its IOVA. Another of the guest's drivers has meanwhile queued that the unit forget the descriptor of a
   * stream: the queue is one for all.
   */
  unmap(iova: number, forgottenStream: number): void {
    setStage1Leaf(this.actor.host, this.#frames, iova, null);
    this.commands.push(...commands.invalidateVa(guestAsid, highOf(iova), lowOf(iova), true));
    this.commands.push(...commands.invalidateDescriptor(forgottenStream));
    this.ring();
    GuestUnmapped.emit(this.actor.host.kernel, this.#process, descriptorPage, highOf(iova), lowOf(iova), 1);
  }
}

/** A vIOMMU object. */
export interface SmmuForwarding {
  readonly iommufd: number;
  readonly viommu: number;
}

export class SmmuQueue extends VirtualQueue {
  constructor(vm: Vm, guest: string, { iommufd, viommu }: SmmuForwarding) {
    super(vm, guest, iommufd, { target: viommu, dataType: smmuInvalidateData, entryBytes: commandBytes, refusals: ['EIO'] });
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

  /** The guest is told nothing here. */
  protected override inject(): void {}
}
