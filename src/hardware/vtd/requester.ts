/**
 * What a VT-d unit knows of a requester, by the mode of its root table: in legacy mode its context entry, from the context cache or
 * read; in scalable mode `scalable-requester.ts`.
 *
 * Root entries are read as no point: software fills them when it
 * probes a bus, before any function on it does DMA. A context entry of 128 bits is one point, or two where the unit
 * fetches halves: then the entry can be seen torn. (In a free run it is read word by word in any case; present bit
 * first here and last in the writer, software that breaks before it makes cannot tell.)
 */
import { peek, read64 } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import { frameOf, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import type { WalkResult } from '#hostmem/page-walk';
import { entryFetched, TableKind } from '../events.ts';
import type { Requester, RequesterTable } from '../translation-unit.ts';
import * as entry from './context-entry.ts';
import { FaultReason, reasonOf, recordedReasonOf, recordFault, ScalableReason, scalableReasonOf } from './faults.ts';
import type { ContextCache, EntryCaches, EntryWords } from './entry-caches.ts';
import { LastRequester } from './last-requester.ts';
import { addressBitsOf, GlobalStatus, RootTableMode, rootTableModeOf, supportsDeviceTlbs, supportsLevels, VtdRegisters } from './registers.ts';
import { noPasid, ScalableRequesters } from './scalable-requester.ts';

export class VtdRequesters implements RequesterTable {
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'VtdRegisters'>;
  /** Word indices of registers that every request reads. */
  readonly #globalStatus: number;
  readonly #rootTable: number;
  readonly #capabilityLow: number;
  readonly #halves: boolean;
  readonly #recordedReasons: boolean;
  readonly #deviceTlbs: boolean;
  readonly #contexts: ContextCache | null;
  readonly #last: LastRequester | null;
  readonly #entry: EntryWords = { word0: 0, word1: 0, word2: 0 };
  readonly #scalable: ScalableRequesters;
  /** Whether the last look-up was one of scalable mode. */
  #isScalable = false;
  readonly addressBits: number;

  /** `caches` is null for who only looks and leaves no trace; those that are off are as good as none. */
  constructor(host: Host, registers: Ref<'VtdRegisters'>, caches: EntryCaches | null) {
    this.#kernel = host.kernel;
    this.#ram = host.ram;
    this.#registers = registers;
    this.#globalStatus = VtdRegisters.globalStatus.address(host.kernel, registers) >>> 2;
    this.#rootTable = VtdRegisters.rootTable.address(host.kernel, registers) >>> 2;
    const capabilityLow = VtdRegisters.capability.peek(host.kernel, registers);
    const capabilityHigh = VtdRegisters.capability.peekHigh(host.kernel, registers);
    const extendedLow = VtdRegisters.extendedCapability.peek(host.kernel, registers);
    const extendedHigh = VtdRegisters.extendedCapability.peekHigh(host.kernel, registers);
    const fetchBits = VtdRegisters.fetchBits.peek(host.kernel, registers);
    this.#capabilityLow = capabilityLow;
    this.#halves = fetchBits === 64;
    this.#deviceTlbs = supportsDeviceTlbs(extendedLow);
    this.#recordedReasons = VtdRegisters.recordedReasons.peek(host.kernel, registers) !== 0;
    const used = caches !== null && (caches.contexts.on || caches.pasids.on) ? caches : null;
    this.#scalable = new ScalableRequesters(host, { capabilityLow, capabilityHigh, extendedLow, extendedHigh, fetchBits }, used);
    this.#contexts = used === null ? null : used.contexts;
    this.#last = used === null ? null : new LastRequester(host.kernel, { globalStatus: this.#globalStatus, rootTable: this.#rootTable }, used);
    this.addressBits = addressBitsOf(capabilityLow);
  }

  /** Reads the entries of a request. A unit that does not translate passes everything through. */
  lookup(sourceId: number, pasid: number, result: Requester): number {
    const last = this.#last;
    if (last !== null && last.is(sourceId, pasid, result)) return FaultReason.NONE;
    return this.#look(sourceId, pasid, result);
  }

  #look(sourceId: number, pasid: number, result: Requester): number {
    this.#last?.begin();
    const reason = this.#find(sourceId, pasid, result);
    if (reason === FaultReason.NONE && !result.passThrough) this.#last?.keep(sourceId, pasid, result, this.#isScalable);
    return reason;
  }

  #find(sourceId: number, pasid: number, result: Requester): number {
    const registers = this.#kernel.words;
    result.silent = result.firstStage = result.marksUse = result.deviceTlb = false;
    result.pasid = 0;
    result.secondRoot = 0 as Frame;
    result.passThrough = (registers[this.#globalStatus]! & GlobalStatus.TRANSLATING) === 0;
    if (result.passThrough) return FaultReason.NONE;
    const rootTable = registers[this.#rootTable]!;
    const mode = rootTableModeOf(rootTable);
    this.#isScalable = mode !== RootTableMode.LEGACY;
    if (mode === RootTableMode.LEGACY) return pasid === noPasid ? this.#legacy(frameOf(rootTable), sourceId, result) : ScalableReason.PASID_IN_LEGACY_MODE;
    if (mode === RootTableMode.SCALABLE) return this.#named(this.#scalable.lookup(frameOf(rootTable), sourceId, pasid, result), 0);
    result.silent = mode === RootTableMode.ABORT;
    return ScalableReason.ROOT_TABLE_INVALID;
  }

  #legacy(rootTable: Frame, sourceId: number, result: Requester): FaultReason {
    const contexts = this.#contexts;
    const words = this.#entry;
    if (contexts !== null && contexts.lookup(sourceId, words)) return this.#decode(words.word0, words.word1, result);
    const epoch = contexts === null ? 0 : contexts.epoch();
    const reason = this.#fetch(rootTable, sourceId, result);
    if (reason === FaultReason.NONE && contexts !== null) contexts.fill(sourceId, result.domainId, words, epoch);
    return reason;
  }

  #fetch(rootTable: Frame, sourceId: number, result: Requester): FaultReason {
    const ram = this.#ram;
    const rootAt = entry.rootEntryAt(rootTable, sourceId);
    if (rootAt >= ram.sizeBytes) return FaultReason.ROOT_ACCESS;
    const rootLow = peek(ram, rootAt);
    if ((rootLow & entry.present) === 0) return FaultReason.ROOT_NOT_PRESENT;
    if ((rootLow & entry.reservedInRoot) !== 0) return FaultReason.ROOT_RESERVED;
    const at = entry.contextEntryAt(frameOf(rootLow), sourceId);
    if (at >= ram.sizeBytes) return FaultReason.CONTEXT_ACCESS;
    const words = this.#entry;
    words.word0 = read64(ram, at, entry.lowLabel);
    words.word1 = this.#halves ? read64(ram, at + 8, entry.highLabel) : peek(ram, at + 8);
    if ((words.word0 & entry.present) !== 0) entryFetched.emit(this.#kernel, TableKind.CONTEXT, sourceId, 0, words.word0, words.word1);
    return this.#decode(words.word0, words.word1, result);
  }

  #decode(low: number, high: number, result: Requester): FaultReason {
    result.silent = (low & entry.faultsDisabled) !== 0;
    if ((low & entry.present) === 0) return FaultReason.CONTEXT_NOT_PRESENT;
    if ((low & entry.reservedInLow) !== 0 || (high & entry.reservedInHigh) !== 0) return FaultReason.CONTEXT_RESERVED;
    const type = entry.typeOf(low);
    result.levels = entry.levelsOf(high);
    result.domainId = entry.domainIdOf(high);
    result.root = frameOf(low);
    result.passThrough = type === entry.TranslationType.PASS_THROUGH;
    result.deviceTlb = type === entry.TranslationType.ALSO_TRANSLATED && this.#deviceTlbs;
    const usable = (type === entry.TranslationType.UNTRANSLATED_ONLY || result.passThrough || result.deviceTlb) && supportsLevels(this.#capabilityLow, result.levels);
    return usable ? FaultReason.NONE : FaultReason.CONTEXT_INVALID;
  }

  get deviceTlbForbidden(): number {
    return this.#isScalable ? ScalableReason.DEVICE_TLB_FORBIDDEN : FaultReason.DEVICE_TLB_FORBIDDEN;
  }

  beyondWidth({ passThrough }: Requester): number {
    if (!this.#isScalable) return FaultReason.BEYOND_WIDTH;
    return this.#named(passThrough ? ScalableReason.BEYOND_HOST_WIDTH : ScalableReason.BEYOND_SECOND_STAGE, 0);
  }

  reasonOf({ firstStage, levels }: Requester, walk: WalkResult, access: number): number {
    if (!this.#isScalable) return reasonOf(walk.fault, access);
    return this.#named(scalableReasonOf(walk, firstStage, levels, access), access);
  }

  nestedReason(reason: ScalableReason, access: number): number {
    return this.#named(reason, access);
  }

  record(sourceId: number, pasid: number, iovaHigh: number, iovaLow: number, reason: number, access: number): void {
    recordFault(this.#kernel, this.#registers, sourceId, pasid, iovaHigh, iovaLow, reason, access);
  }

  /** A reason of scalable mode in the numbers of this unit. */
  #named(reason: ScalableReason, access: number): number {
    return reason !== 0 && this.#recordedReasons ? recordedReasonOf(reason, access) : reason;
  }
}

/** The context entry of a requester as no point, for oracles and software that holds its lock: byte address, or 0 when its bus has no table. */
export function contextAddress(ram: Memory, rootTable: Frame, sourceId: number): number {
  const low = peek(ram, entry.rootEntryAt(rootTable, sourceId));
  return (low & entry.present) === 0 ? 0 : entry.contextEntryAt(frameOf(low), sourceId);
}
