/**
 * SMMUv3's command queue: what its commands do (`command-engine.ts` has their order and their waits). A message that a SYNC sends is a write of
 * 32 bits.
 */
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { CommandEngine } from '../command-engine.ts';
import { TaggedCacheView } from '../tagged-cache.ts';
import { IommuUnit } from '../unit.ts';
import * as commands from './commands.ts';
import { Opcode } from './commands.ts';
import { SmmuRegisters } from './registers.ts';
import { anyAsid, numberOf, pasidOf } from './tlb-tag.ts';

export class SmmuCommandQueue extends CommandEngine {
  /** Of stream-table entries and of context descriptors. */
  readonly #streams: TaggedCacheView;
  readonly #descriptors: TaggedCacheView;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const { kernel } = host;
    super(host, unit, 'smmu', SmmuRegisters.commands.peek(kernel, IommuUnit.registers.peek(kernel, unit) as Ref<'SmmuRegisters'>));
    this.#streams = new TaggedCacheView(kernel, IommuUnit.contextCache.peek(kernel, unit), null, this.iotlb.at);
    this.#descriptors = new TaggedCacheView(kernel, IommuUnit.pasidCache.peek(kernel, unit), null, this.iotlb.at);
  }

  protected isLegal(): boolean {
    return commands.isKnown(this.word(0));
  }

  protected isWait(): boolean {
    return commands.opcodeOf(this.word(0)) === Opcode.SYNC;
  }

  protected waitAddress(): number {
    return commands.sendsMessage(this.word(0)) ? (this.word(2) & ~3) >>> 0 : 0;
  }

  protected waitData(): readonly [number, null] {
    return [this.word(1), null];
  }

  protected invalidate(): void {
    const [opcode, second, third, fourth] = [commands.opcodeOf(this.word(0)), this.word(1), this.word(2), this.word(3)];
    if (opcode === Opcode.CFGI_STE || opcode === Opcode.CFGI_CD || opcode === Opcode.CFGI_CD_ALL) this.#forget(opcode, second);
    else if (opcode === Opcode.CFGI_ALL) {
      this.#streams.invalidate(0, 0, 0, 0, 0, 0);
      this.#descriptors.invalidate(0, 0, 0, 0, 0, 0);
      // No function here has a cache of its own behind an SMMUv3.
    } else if (opcode !== Opcode.ATC_INV) this.#forgetTranslations(opcode, commands.vmidOf(second), commands.asidOf(second), fourth, third);
  }

  /** What stage 2 alone has translated goes by IPA; what both have is found by the guest's addresses, and by IPA only as a whole. */
  #forgetTranslations(opcode: number, vmid: number, asid: number, high: number, low: number): void {
    const { iotlb } = this;
    const [number, pasid] = [numberOf(vmid, asid), pasidOf(vmid, asid)];
    if (opcode === Opcode.TLBI_NH_ASID) iotlb.invalidatePasid(number, pasid);
    else if (opcode === Opcode.TLBI_NH_VA) iotlb.invalidatePasidPages(number, pasid, high, low, 0);
    else if (opcode === Opcode.TLBI_NH_VAA && vmid !== 0) iotlb.invalidatePasidPages(vmid, anyAsid, high, low, 0, anyAsid);
    else if (opcode === Opcode.TLBI_NH_ALL && vmid !== 0) iotlb.invalidatePasid(vmid, anyAsid, anyAsid);
    else if (opcode === Opcode.TLBI_S2_IPA) iotlb.invalidatePages(vmid, high, low, 0);
    else if (opcode === Opcode.TLBI_S12_VMALL) {
      iotlb.invalidateSecondStage(vmid);
      iotlb.invalidatePasid(vmid, anyAsid, anyAsid);
    } else iotlb.invalidateAll();
  }

  /** A descriptor was found through its stream's entry: it goes with that. */
  #forget(opcode: number, streamId: number): void {
    if (opcode === Opcode.CFGI_STE) this.#streams.invalidate(streamId, -1, 0, 0, 0, 0);
    this.#descriptors.invalidate(streamId, -1, 0, 0, 0, 0);
  }

  /** CMDQ_CONS.ERR says it: there is no event for it, and the ring has stopped. */
  protected refuse(): void {}
}
