/** An SMMUv3 as a device's DMA meets it: the stream's entry, the descriptor of its stage 1, the tables of its stage 2, IOTLB and walk. */
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import type { Host } from '#hostmem/host';
import { markedLabel } from '#hostmem/labels';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { PageWalker, WalkFault } from '#hostmem/page-walk';
import { CachedWalk, type Walked } from '../cached-walk.ts';
import { firstStageTag, type IotlbView } from '../iotlb.ts';
import { withGuestPage } from '../nested-line.ts';
import { TaggedCacheView } from '../tagged-cache.ts';
import type { Translator } from '../translator.ts';
import { IommuUnit } from '../unit.ts';
import { EventClass, eventOf, SmmuEvent, tellRefused, type Refusal } from './events.ts';
import { SmmuRegisters } from './registers.ts';
import { Streams } from './streams.ts';
import { nestedTag } from './tlb-tag.ts';

const streamLabels = { lookup: markedLabel('StreamCache.lookup'), fill: markedLabel('StreamCache.fill') };
const descriptorLabels = { lookup: markedLabel('DescriptorCache.lookup'), fill: markedLabel('DescriptorCache.fill') };
const all = Access.READ | Access.WRITE;

export class SmmuUnit implements Translator {
  frame = 0 as Frame;
  root = 0 as Frame;
  /** Of the last one through both stages: `Access` bits, and the guest's page (`nested-line.ts`). */
  permissions = 0;
  hit = false;
  readonly iotlb: IotlbView;
  readonly #host: Host;
  readonly #registers: Ref<'SmmuRegisters'>;
  readonly #streams: Streams;
  readonly #walk: CachedWalk;
  readonly #first: readonly (PageWalker | null)[];
  readonly #walked: Walked;
  /** Where both stages were asked, what refused the last request. */
  #refusal: Refusal | null = null;

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
    this.#walked = { tables: this.#first[4]!, root: 0 as Frame, name: 0 as Frame, tag: 0, stageTag: 0, permissions: all };
  }

  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    this.#refusal = null;
    const type = this.#translate(sourceId, iovaHigh, iovaLow, access, epoch);
    const isTold = type !== SmmuEvent.NONE && type !== SmmuEvent.ABORTED;
    if (isTold) tellRefused(this.#host, this.#registers, type, sourceId, iovaHigh, iovaLow, access === Access.READ, this.#refusal ?? this.#plain(type));
    return type;
  }

  #translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): SmmuEvent {
    this.frame = 0 as Frame;
    this.root = 0 as Frame;
    this.permissions = 0;
    this.hit = false;
    const streams = this.#streams;
    const refused = streams.find(sourceId);
    const isNested = streams.stage1 && streams.stage2;
    if (refused !== SmmuEvent.NONE) {
      if (isNested && refused >= SmmuEvent.F_WALK_EABT) this.#refusal = streams.walk.refusal;
      return refused;
    }
    if (streams.passThrough) {
      this.frame = ((iovaHigh & 0xfffff) * 0x100000 + (iovaLow >>> 12)) as Frame;
      return SmmuEvent.NONE;
    }
    this.root = streams.name;
    if (isNested) return this.#throughBoth(sourceId, iovaHigh, iovaLow, access, epoch);
    const walked = this.#walked;
    walked.tables = streams.stage2 ? streams.second[streams.secondLevels]! : this.#first[streams.levels]!;
    walked.root = walked.name = streams.name;
    walked.tag = streams.stage2 ? streams.vmid : streams.asid;
    walked.stageTag = streams.stage2 ? 0 : firstStageTag;
    const fault = this.#walk.translate(walked, sourceId, iovaHigh, iovaLow, access, epoch);
    this.hit = this.#walk.hit;
    if (fault === WalkFault.NONE) this.frame = this.#walk.frame;
    return eventOf[fault];
  }

  /** A line has what both stages grant; as with one stage, a hit without permission is walked. */
  #throughBoth(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): SmmuEvent {
    const { asid, vmid, levels, name, root, secondLevels, secondRoot, second, walk } = this.#streams;
    const { iotlb } = this;
    const tag = nestedTag(vmid, asid);
    const isTagged = iovaHigh >>> 16 === 0;
    this.hit = isTagged && iotlb.lookup(vmid, iovaHigh, iovaLow, tag) && (iotlb.permissions & access) === access;
    if (this.hit) {
      this.frame = iotlb.frame;
      this.permissions = iotlb.permissions;
      return SmmuEvent.NONE;
    }
    const fault = walk.onto(second[secondLevels]!, secondRoot, sourceId).walk(this.#first[levels]!.format, root, iovaHigh, iovaLow, access);
    if (fault !== WalkFault.NONE) {
      this.#refusal = walk.refusal;
      return eventOf[fault];
    }
    this.frame = walk.frame;
    this.permissions = withGuestPage(walk.permissions, walk.guestPage);
    iotlb.fill(vmid, iovaHigh, iovaLow, walk.frame, this.permissions, name, epoch, tag);
    return SmmuEvent.NONE;
  }

  /** Where one stage refuses. */
  #plain(type: SmmuEvent): Refusal {
    return { stage2: this.#streams.stage2, class: type >= SmmuEvent.F_WALK_EABT ? EventClass.INPUT : EventClass.DESCRIPTOR, ipaPage: 0 };
  }
}
