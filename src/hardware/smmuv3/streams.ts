/**
 * What an SMMUv3 knows of a stream: its entry and, for a stage 1, its context descriptor, each cached or fetched. Level-1 descriptors are read
 * as no point: software fills them when it probes a bus, before any function on it does DMA.
 */
import { peek } from '#hostmem/atomics';
import { smmuStage2 } from '#hostmem/formats/smmu-stage-2';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { PageWalker, WalkFault } from '#hostmem/page-walk';
import { fetchEntry } from '../entry-fetch.ts';
import { entryFetched, TableKind } from '../events.ts';
import type { TaggedCacheView } from '../tagged-cache.ts';
import * as descriptor from './context-descriptor.ts';
import { nestedName } from '../nested-line.ts';
import { EventClass, eventOf, SmmuEvent } from './events.ts';
import { NestedWalk } from './nested-walk.ts';
import { SmmuRegisters, StreamTableFormat } from './registers.ts';
import * as stream from './stream-table.ts';
import { Config } from './stream-table.ts';

/** Both caches; null for who only looks. */
export interface StreamCaches {
  readonly streams: TaggedCacheView;
  readonly descriptors: TaggedCacheView;
}

/** Lines under a VMID are told from those under an ASID. */
export const vmidTag = 1 << 16;

export class Streams {
  /** Of the last stream that was found: no tables, or the tables of one stage or of two. */
  passThrough = false;
  /** A stage 1, on a stage 2 or alone: its ASID, and its root, which on a stage 2 is a page of the guest. */
  stage1 = false;
  asid = 0;
  root = 0 as Frame;
  levels: 0 | 3 | 4 = 0;
  /** A stage 2: its VMID, and its root and levels; without one the VMID is 0. */
  stage2 = false;
  vmid = 0;
  secondRoot = 0 as Frame;
  secondLevels: 0 | 3 | 4 = 0;
  /** The table by which reports name the domain; of two stages their name (`nested-line.ts`): a guest's stage 1 is the one that its descriptor is for. */
  name = 0 as Frame;
  /** Through both stages; what refused a descriptor is its `refusal`. */
  readonly walk: NestedWalk;
  /** Of stages 2, by number of levels. */
  readonly second: readonly (PageWalker | null)[];
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'SmmuRegisters'>;
  readonly #caches: StreamCaches | null;
  readonly #fetchBits: number;
  readonly #entry = new Int32Array(stream.entryQuadwords * 2);
  readonly #descriptor = new Int32Array(4);

  constructor(host: Host, registers: Ref<'SmmuRegisters'>, caches: StreamCaches | null) {
    this.#kernel = host.kernel;
    this.#ram = host.ram;
    this.#registers = registers;
    this.#caches = caches;
    this.#fetchBits = SmmuRegisters.fetchBits.peek(host.kernel, registers);
    this.walk = new NestedWalk(host);
    const table = (levels: 3 | 4): PageWalker => new PageWalker(host.ram, smmuStage2(levels));
    this.second = [null, null, null, table(3), table(4)];
  }

  /** 0, or why requests of the stream are refused. */
  find(streamId: number): SmmuEvent {
    const cached = this.#caches?.streams ?? null;
    if (cached !== null && cached.lookup(streamId, 0, 0, 0)) return this.#use(streamId, cached.value0, cached.value1, cached.value2, stream.stage2Control);
    this.passThrough = SmmuRegisters.streamTable.peek(this.#kernel, this.#registers) === 0;
    if (this.passThrough) return SmmuEvent.NONE;
    const epoch = cached === null ? 0 : cached.epoch();
    const at = streamEntryAt(this.#kernel, this.#ram, this.#registers, streamId);
    if (at === 0) return SmmuEvent.C_BAD_STREAMID;
    if (at >= this.#ram.sizeBytes) return SmmuEvent.F_STE_FETCH;
    const words = this.#entry;
    fetchEntry(this.#ram, at, words, stream.entryQuadwords, this.#fetchBits, stream.entryLabels);
    if ((words[0]! & stream.valid) === 0) return SmmuEvent.C_BAD_STE;
    const [word0, second, third] = stream.inUse([words[0]!, words[2]!, words[4]!, words[6]!]);
    entryFetched.emit(this.#kernel, TableKind.STREAM, streamId, 0, word0, second, third);
    const isStage2 = stream.hasStage2(word0);
    if (cached !== null && (!isStage2 || words[5] === stream.stage2Control))
      cached.fill(streamId, 0, isStage2 ? vmidTag | stream.vmidOf(second) : 0, word0, second, third, epoch);
    return this.#use(streamId, word0, second, third, words[5]!);
  }

  #use(streamId: number, word0: number, second: number, third: number, control: number): SmmuEvent {
    const config = stream.configOf(word0);
    this.passThrough = config === Config.BYPASS;
    this.stage1 = config === Config.STAGE1 || config === Config.NESTED;
    this.stage2 = stream.hasStage2(word0);
    this.asid = this.vmid = 0;
    if (this.passThrough) return SmmuEvent.NONE;
    if (config === Config.ABORT) return SmmuEvent.ABORTED;
    if (!this.stage1 && !this.stage2) return SmmuEvent.C_BAD_STE;
    if (this.stage2) {
      this.secondLevels = stream.levelsOf(control);
      this.secondRoot = this.name = stream.rootOf(third);
      this.vmid = stream.vmidOf(second);
      if (this.secondLevels === 0) return SmmuEvent.C_BAD_STE;
    }
    return this.stage1 ? this.#findDescriptor(streamId, stream.descriptorAt(word0)) : SmmuEvent.NONE;
  }

  #findDescriptor(streamId: number, pointer: number): SmmuEvent {
    if (this.stage2) this.name = nestedName(Math.floor(pointer / pageBytes), this.secondRoot);
    const cached = this.#caches?.descriptors ?? null;
    if (cached !== null && cached.lookup(streamId, 0, 0, 0)) return this.#useDescriptor([cached.value0, cached.value1, cached.value2]);
    const epoch = cached === null ? 0 : cached.epoch();
    const refused = this.stage2 ? this.#locate(streamId, pointer) : SmmuEvent.NONE;
    if (refused !== SmmuEvent.NONE) return refused;
    const at = this.stage2 ? hpaOf(this.walk.frame) + (pointer % pageBytes) : pointer;
    if (at >= this.#ram.sizeBytes) return SmmuEvent.F_CD_FETCH;
    const words = this.#descriptor;
    fetchEntry(this.#ram, at, words, 2, this.#fetchBits, descriptor.descriptorLabels);
    const found: descriptor.Descriptor = [words[0]!, words[1]!, words[2]!];
    if ((found[0] & descriptor.valid) === 0) return SmmuEvent.C_BAD_CD;
    // A guest's is nobody's in the host: what it was meant to be is not told either.
    if (!this.stage2) entryFetched.emit(this.#kernel, TableKind.CONTEXT_DESCRIPTOR, streamId, 0, ...found);
    if (cached !== null) cached.fill(streamId, 0, this.stage2 ? vmidTag | this.vmid : descriptor.asidOf(found[1]), ...found, epoch);
    return this.#useDescriptor(found);
  }

  /** Where a guest's descriptor is: `walk.frame`. */
  #locate(streamId: number, pointer: number): SmmuEvent {
    const walk = this.walk.onto(this.second[this.secondLevels]!, this.secondRoot, streamId);
    const fault = walk.throughSecond(EventClass.DESCRIPTOR, Math.floor(pointer / pageBytes), Access.READ);
    return fault === WalkFault.NONE ? SmmuEvent.NONE : eventOf[fault];
  }

  #useDescriptor(found: descriptor.Descriptor): SmmuEvent {
    this.levels = descriptor.levelsOf(found);
    this.root = descriptor.rootOf(found[2]);
    this.asid = descriptor.asidOf(found[1]);
    if (!this.stage2) this.name = this.root;
    return this.levels === 0 ? SmmuEvent.C_BAD_CD : SmmuEvent.NONE;
  }
}

/** Byte address of a stream's entry as no point, 0 for a stream that the table does not have. */
export function streamEntryAt(kernel: Memory, ram: Memory, registers: Ref<'SmmuRegisters'>, streamId: number): number {
  const table = SmmuRegisters.streamTable.peek(kernel, registers) as Frame;
  if (streamId >>> SmmuRegisters.streamBits.peek(kernel, registers) !== 0) return 0;
  if (SmmuRegisters.streamTableFormat.peek(kernel, registers) === StreamTableFormat.LINEAR) return hpaOf(table) + streamId * stream.entryBytes;
  const low = peek(ram, hpaOf(table) + (streamId >>> stream.splitBits) * 8);
  const span = low & 0x1f;
  const index = streamId & ((1 << stream.splitBits) - 1);
  return span === 0 || index >>> (span - 1) !== 0 ? 0 : (low >>> 12) * pageBytes + index * stream.entryBytes;
}
