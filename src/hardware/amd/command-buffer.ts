/** AMD's command buffer: what its commands do (`command-engine.ts` has their order and their waits). */
import type { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { CommandEngine, UnitCommandRing, commandBytes } from '../command-engine.ts';
import { TaggedCacheView } from '../tagged-cache.ts';
import { IommuUnit } from '../unit.ts';
import * as commands from './commands.ts';
import { Opcode } from './commands.ts';
import { illegalCommand } from './event-log.ts';
import { AmdRegisters } from './registers.ts';

/** An invalidation of pages names at most so many bits of a page number; what is larger goes as a whole. */
const mostPageBits = 31;

export class CommandBuffer extends CommandEngine {
  readonly #entries: TaggedCacheView;
  readonly #registers: Ref<'AmdRegisters'>;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const registers = IommuUnit.registers.peek(host.kernel, unit) as Ref<'AmdRegisters'>;
    super(host, unit, 'amd', AmdRegisters.commands.peek(host.kernel, registers));
    this.#registers = registers;
    this.#entries = new TaggedCacheView(host.kernel, IommuUnit.contextCache.peek(host.kernel, unit), null, this.iotlb.at);
  }

  protected isLegal(): boolean {
    const opcode = this.#opcode;
    if (opcode === Opcode.INVALIDATE_IOMMU_PAGES) return (this.word(2) & commands.Pages.GUEST) === 0;
    return opcode === Opcode.COMPLETION_WAIT || opcode === Opcode.INVALIDATE_DEVTAB_ENTRY || opcode === Opcode.INVALIDATE_IOMMU_ALL;
  }

  protected isWait(): boolean {
    return this.#opcode === Opcode.COMPLETION_WAIT;
  }

  protected waitAddress(): number {
    return (this.word(0) & commands.store) === 0 ? 0 : (this.word(0) & ~7) >>> 0;
  }

  protected waitData(): readonly [number, number] {
    return [this.word(2), this.word(3)];
  }

  protected invalidate(): void {
    const opcode = this.#opcode;
    if (opcode === Opcode.INVALIDATE_DEVTAB_ENTRY) this.#entries.invalidate(this.word(0) & 0xffff, -1, 0, 0, 0, 0);
    else if (opcode === Opcode.INVALIDATE_IOMMU_ALL) {
      this.#entries.invalidate(0, 0, 0, 0, 0, 0);
      this.iotlb.invalidateAll();
    } else this.#invalidatePages();
  }

  protected refuse(): void {
    const ring = UnitCommandRing.frame.peek(this.host.kernel, this.ring) as Frame;
    illegalCommand(this.host, this.#registers, hpaOf(ring) + UnitCommandRing.head.peek(this.host.kernel, this.ring) * commandBytes);
  }

  #invalidatePages(): void {
    const domainId = this.word(1) & 0xffff;
    const order = commands.orderOf(this.word(2), this.word(3));
    if (order > mostPageBits) this.iotlb.invalidateDomain(domainId);
    else this.iotlb.invalidatePages(domainId, this.word(3), this.word(2), order);
  }

  get #opcode(): number {
    return commands.opcodeOf(this.word(1));
  }
}
