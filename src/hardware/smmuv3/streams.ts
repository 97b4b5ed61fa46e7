/**
 * What an SMMUv3 knows of a stream: its entry and, for a stage 1, its context descriptor, each cached or fetched. Level-1 descriptors are read
 * as no point: software fills them when it probes a bus, before any function on it does DMA.
 */
import { peek } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { hpaOf, pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { fetchEntry } from '../entry-fetch.ts';
import { entryFetched, TableKind } from '../events.ts';
import type { TaggedCacheView } from '../tagged-cache.ts';
import * as descriptor from './context-descriptor.ts';
import { SmmuEvent } from './events.ts';
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
  /** Of the last stream that was found: no tables, or the tables of one stage, tagged with an ASID or a VMID. */
  passThrough = false;
  stage2 = false;
  root = 0 as Frame;
  levels: 0 | 3 | 4 = 0;
  tag = 0;
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
    const isStage2 = stream.configOf(word0) === Config.STAGE2;
    if (cached !== null && (!isStage2 || words[5] === stream.stage2Control))
      cached.fill(streamId, 0, isStage2 ? vmidTag | stream.vmidOf(second) : 0, word0, second, third, epoch);
    return this.#use(streamId, word0, second, third, words[5]!);
  }

  #use(streamId: number, word0: number, second: number, third: number, control: number): SmmuEvent {
    const config = stream.configOf(word0);
    this.passThrough = config === Config.BYPASS;
    this.stage2 = config === Config.STAGE2;
    if (this.passThrough) return SmmuEvent.NONE;
    if (config === Config.ABORT) return SmmuEvent.ABORTED;
    if (config === Config.STAGE1) return this.#findDescriptor(streamId, stream.descriptorsOf(word0));
    if (!this.stage2) return SmmuEvent.C_BAD_STE;
    this.levels = stream.levelsOf(control);
    this.root = stream.rootOf(third);
    this.tag = stream.vmidOf(second);
    return this.levels === 0 ? SmmuEvent.C_BAD_STE : SmmuEvent.NONE;
  }

  #findDescriptor(streamId: number, table: Frame): SmmuEvent {
    const cached = this.#caches?.descriptors ?? null;
    if (cached !== null && cached.lookup(streamId, 0, 0, 0)) return this.#useDescriptor([cached.value0, cached.value1, cached.value2]);
    const epoch = cached === null ? 0 : cached.epoch();
    if (hpaOf(table) >= this.#ram.sizeBytes) return SmmuEvent.F_CD_FETCH;
    const words = this.#descriptor;
    fetchEntry(this.#ram, hpaOf(table), words, 2, this.#fetchBits, descriptor.descriptorLabels);
    const found: descriptor.Descriptor = [words[0]!, words[1]!, words[2]!];
    if ((found[0] & descriptor.valid) === 0) return SmmuEvent.C_BAD_CD;
    entryFetched.emit(this.#kernel, TableKind.CONTEXT_DESCRIPTOR, streamId, 0, ...found);
    if (cached !== null) cached.fill(streamId, 0, descriptor.asidOf(found[1]), ...found, epoch);
    return this.#useDescriptor(found);
  }

  #useDescriptor(found: descriptor.Descriptor): SmmuEvent {
    this.levels = descriptor.levelsOf(found);
    this.root = descriptor.rootOf(found[2]);
    this.tag = descriptor.asidOf(found[1]);
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
