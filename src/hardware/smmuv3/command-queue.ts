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
    const { iotlb } = this;
    if (opcode === Opcode.CFGI_STE || opcode === Opcode.CFGI_CD) this.#forget(opcode, second);
    else if (opcode === Opcode.CFGI_ALL) {
      this.#streams.invalidate(0, 0, 0, 0, 0, 0);
      this.#descriptors.invalidate(0, 0, 0, 0, 0, 0);
    } else if (opcode === Opcode.TLBI_NH_ASID) iotlb.invalidatePasid(commands.asidOf(second), 0);
    else if (opcode === Opcode.TLBI_NH_VA) iotlb.invalidatePasidPages(commands.asidOf(second), 0, fourth, third, 0);
    else if (opcode === Opcode.TLBI_S12_VMALL) iotlb.invalidateSecondStage(commands.vmidOf(second));
    else if (opcode === Opcode.TLBI_S2_IPA) iotlb.invalidatePages(commands.vmidOf(second), fourth, third, 0);
    else iotlb.invalidateAll();
  }

  /** A descriptor was found through its stream's entry: it goes with that. */
  #forget(opcode: number, streamId: number): void {
    if (opcode === Opcode.CFGI_STE) this.#streams.invalidate(streamId, -1, 0, 0, 0, 0);
    this.#descriptors.invalidate(streamId, -1, 0, 0, 0, 0);
  }

  /** CMDQ_CONS.ERR says it: there is no event for it, and the ring has stopped. */
  protected refuse(): void {}
}
