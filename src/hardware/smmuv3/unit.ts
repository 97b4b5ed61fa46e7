/** An SMMUv3 as a device's DMA meets it: the stream's entry, the descriptor of its stage 1 or the tables of its stage 2, IOTLB and walk. */
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import { smmuStage2 } from '#hostmem/formats/smmu-stage-2';
import type { Host } from '#hostmem/host';
import { markedLabel } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { PageWalker, WalkFault } from '#hostmem/page-walk';
import { CachedWalk, type Walked } from '../cached-walk.ts';
import { firstStageTag, type IotlbView } from '../iotlb.ts';
import { TaggedCacheView } from '../tagged-cache.ts';
import type { Translator } from '../translator.ts';
import { IommuUnit } from '../unit.ts';
import { SmmuEvent, tellRefused } from './events.ts';
import { SmmuRegisters } from './registers.ts';
import { Streams } from './streams.ts';

const streamLabels = { lookup: markedLabel('StreamCache.lookup'), fill: markedLabel('StreamCache.fill') };
const descriptorLabels = { lookup: markedLabel('DescriptorCache.lookup'), fill: markedLabel('DescriptorCache.fill') };
const all = Access.READ | Access.WRITE;

export class SmmuUnit implements Translator {
  frame = 0 as Frame;
  root = 0 as Frame;
  hit = false;
  readonly iotlb: IotlbView;
  readonly #host: Host;
  readonly #registers: Ref<'SmmuRegisters'>;
  readonly #streams: Streams;
  readonly #walk: CachedWalk;
  readonly #first: readonly (PageWalker | null)[];
  readonly #second: readonly (PageWalker | null)[];
  readonly #walked: Walked;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    const { kernel, ram } = host;
    this.#host = host;
    this.#registers = IommuUnit.registers.peek(kernel, unit) as Ref<'SmmuRegisters'>;
    SmmuRegisters.check(kernel, this.#registers);
    this.#walk = new CachedWalk(host, unit);
    this.iotlb = this.#walk.iotlb;
    const streams = new TaggedCacheView(kernel, IommuUnit.contextCache.peek(kernel, unit), streamLabels, this.iotlb.at);
    const descriptors = new TaggedCacheView(kernel, IommuUnit.pasidCache.peek(kernel, unit), descriptorLabels, this.iotlb.at);
    this.#streams = new Streams(host, this.#registers, { streams, descriptors });
    const table = (format: PageTableFormat): PageWalker => new PageWalker(ram, format);
    this.#first = [null, null, null, table(smmuStage1(3)), table(smmuStage1(4))];
    this.#second = [null, null, null, table(smmuStage2(3)), table(smmuStage2(4))];
    this.#walked = { tables: this.#first[4]!, root: 0 as Frame, name: 0 as Frame, tag: 0, stageTag: 0, permissions: all };
  }

  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const type = this.#translate(sourceId, iovaHigh, iovaLow, access, epoch);
    const isTold = type !== SmmuEvent.NONE && type !== SmmuEvent.ABORTED;
    if (isTold) tellRefused(this.#host, this.#registers, type, sourceId, iovaHigh, iovaLow, access === Access.READ, this.#streams.stage2);
    return type;
  }

  #translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): SmmuEvent {
    this.frame = 0 as Frame;
    this.root = 0 as Frame;
    this.hit = false;
    const streams = this.#streams;
    const refused = streams.find(sourceId);
    if (refused !== SmmuEvent.NONE) return refused;
    if (streams.passThrough) {
      this.frame = ((iovaHigh & 0xfffff) * 0x100000 + (iovaLow >>> 12)) as Frame;
      return SmmuEvent.NONE;
    }
    const walked = this.#walked;
    walked.tables = (streams.stage2 ? this.#second : this.#first)[streams.levels]!;
    walked.root = walked.name = this.root = streams.root;
    walked.tag = streams.tag;
    walked.stageTag = streams.stage2 ? 0 : firstStageTag;
    const fault = this.#walk.translate(walked, sourceId, iovaHigh, iovaLow, access, epoch);
    this.hit = this.#walk.hit;
    if (fault === WalkFault.NONE) this.frame = this.#walk.frame;
    return events[fault];
  }
}

const events: Readonly<Record<WalkFault, SmmuEvent>> = {
  [WalkFault.NONE]: SmmuEvent.NONE,
  [WalkFault.BEYOND_WIDTH]: SmmuEvent.F_TRANSLATION,
  [WalkFault.NOT_PRESENT]: SmmuEvent.F_TRANSLATION,
  [WalkFault.READ_DENIED]: SmmuEvent.F_PERMISSION,
  [WalkFault.WRITE_DENIED]: SmmuEvent.F_PERMISSION,
  [WalkFault.RESERVED]: SmmuEvent.F_TRANSLATION,
  [WalkFault.TABLE_ACCESS]: SmmuEvent.F_WALK_EABT,
  [WalkFault.SUPERVISOR]: SmmuEvent.F_PERMISSION,
  [WalkFault.NOT_ACCESSED]: SmmuEvent.F_ACCESS,
};
