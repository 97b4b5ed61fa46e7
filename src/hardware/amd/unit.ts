/**
 * A unit of AMD's as a device's DMA meets it: the requester's entry of the device table, cached or fetched, and the host tables of as many
 * levels as its mode says.
 */
import { peek } from '#hostmem/atomics';
import { amdV1 } from '#hostmem/formats/amd-v1';
import type { Host } from '#hostmem/host';
import { markedLabel } from '#hostmem/labels';
import { hpaOf, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access } from '#hostmem/page-table-format';
import { PageWalker, WalkFault } from '#hostmem/page-walk';
import { CachedWalk, type Walked } from '../cached-walk.ts';
import { fetchEntry } from '../entry-fetch.ts';
import { entryFetched, TableKind } from '../events.ts';
import type { IotlbView } from '../iotlb.ts';
import { TaggedCacheView } from '../tagged-cache.ts';
import type { Translator } from '../translator.ts';
import { IommuUnit } from '../unit.ts';
import * as entry from './device-table.ts';
import { AmdEvent, refusedRequest } from './event-log.ts';
import { AmdRegisters } from './registers.ts';

/** Tables begin with so many levels (`DEFAULT_PGTABLE_LEVEL`), and grow. */
export const firstLevels = 3;
const mostLevels = 6;
const accessMask = Access.READ | Access.WRITE;
const cacheLabels = { lookup: markedLabel('DeviceTableCache.lookup'), fill: markedLabel('DeviceTableCache.fill') };

/** What a requester's entry says. */
export interface AmdRequester {
  /** Requests go to the addresses they name. */
  passThrough: boolean;
  root: Frame;
  levels: number;
  domainId: number;
  permissions: number;
}

/** The entry of a requester, as hardware reads it. */
export class DeviceTable {
  readonly requester: AmdRequester = { passThrough: false, root: 0 as Frame, levels: 0, domainId: 0, permissions: 0 };
  readonly #kernel: Memory;
  readonly #ram: Memory;
  readonly #registers: Ref<'AmdRegisters'>;
  readonly #cache: TaggedCacheView | null;
  readonly #fetchBits: number;
  readonly #words = new Int32Array(4);

  /** `cache` is null for who only looks. */
  constructor(host: Host, registers: Ref<'AmdRegisters'>, cache: TaggedCacheView | null) {
    this.#kernel = host.kernel;
    this.#ram = host.ram;
    this.#registers = registers;
    this.#cache = cache;
    this.#fetchBits = AmdRegisters.fetchBits.peek(host.kernel, registers);
  }

  /** Finds `requester`. 0, or the code of what is wrong. */
  find(sourceId: number): AmdEvent {
    const cache = this.#cache;
    if (cache !== null && cache.lookup(sourceId, 0, 0, 0)) return this.#decode(cache.value0, cache.value1, cache.value2);
    const epoch = cache === null ? 0 : cache.epoch();
    const table = AmdRegisters.deviceTable.peek(this.#kernel, this.#registers) as Frame;
    const entries = AmdRegisters.deviceTableFrames.peek(this.#kernel, this.#registers) * entry.entriesPerFrame;
    // Before software has given it a table the unit translates nothing.
    if (table === 0) return this.#decode(0, 0, 0);
    if (sourceId >= entries) return AmdEvent.ILLEGAL_DEV_TABLE_ENTRY;
    const words = this.#words;
    fetchEntry(this.#ram, entry.entryAt(table, sourceId), words, 2, this.#fetchBits, entry.entryLabels);
    const [low, high, third] = words as unknown as readonly [number, number, number];
    if ((low & entry.valid) !== 0) entryFetched.emit(this.#kernel, TableKind.DEVICE_TABLE, sourceId, 0, entry.usedLow(low), entry.usedDomain(low, third));
    const code = this.#decode(low, high, third);
    if (code === AmdEvent.NONE && cache !== null) cache.fill(sourceId, 0, entry.usedDomain(low, third), low, high, third, epoch);
    return code;
  }

  #decode(low: number, high: number, third: number): AmdEvent {
    const requester = this.requester;
    const levels = entry.levelsOf(low);
    requester.levels = levels;
    requester.root = entry.rootOf(high, low);
    requester.domainId = entry.domainIdOf(third);
    requester.permissions = entry.permissionsOf(high);
    requester.passThrough = (low & entry.valid) === 0;
    if (requester.passThrough) {
      requester.permissions = accessMask;
      return AmdEvent.NONE;
    }
    if ((low & entry.translates) === 0) return AmdEvent.IO_PAGE_FAULT;
    requester.passThrough = levels === 0;
    return levels === 0 || (levels >= firstLevels && levels <= mostLevels) ? AmdEvent.NONE : AmdEvent.ILLEGAL_DEV_TABLE_ENTRY;
  }
}

/**
 * The table that one began with, by which reports name the domain: the first entry of each root that was put over it leads there. As no
 * point. A table that did not grow like that is its own.
 */
export function firstRootOf(ram: Memory, root: Frame, levels: number): Frame {
  const format = formats[levels]!;
  let at = root;
  for (let level = levels; level > firstLevels; level--) {
    if (hpaOf(at) >= ram.sizeBytes) return root;
    const low = peek(ram, hpaOf(at));
    const high = peek(ram, hpaOf(at) + 4);
    const seen = format.inspect(level, high, low);
    if (seen === 0 || (seen & ~accessMask) !== 0) return root;
    at = format.frameOf(high, low);
  }
  return at;
}

const formats = [null, null, null, amdV1(3), amdV1(4), amdV1(5), amdV1(6)];

export class AmdUnit implements Translator {
  frame = 0 as Frame;
  root = 0 as Frame;
  hit = false;
  readonly iotlb: IotlbView;
  readonly #host: Host;
  readonly #registers: Ref<'AmdRegisters'>;
  readonly #table: DeviceTable;
  readonly #walk: CachedWalk;
  readonly #tables: readonly (PageWalker | null)[];
  readonly #walked: Walked;
  /** Of the last request: whether what it wanted is mapped. */
  #isPresent = false;

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    this.#host = host;
    this.#registers = IommuUnit.registers.peek(host.kernel, unit) as Ref<'AmdRegisters'>;
    AmdRegisters.check(host.kernel, this.#registers);
    this.#walk = new CachedWalk(host, unit);
    this.iotlb = this.#walk.iotlb;
    const cache = new TaggedCacheView(host.kernel, IommuUnit.contextCache.peek(host.kernel, unit), cacheLabels, this.iotlb.at);
    this.#table = new DeviceTable(host, this.#registers, cache);
    this.#tables = formats.map((format) => (format === null ? null : new PageWalker(host.ram, format)));
    this.#walked = { tables: this.#tables[firstLevels]!, root: 0 as Frame, name: 0 as Frame, tag: 0, stageTag: 0, permissions: 0 };
  }

  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const code = this.#translate(sourceId, iovaHigh, iovaLow, access, epoch);
    const { domainId } = this.#table.requester;
    if (code !== AmdEvent.NONE) refusedRequest(this.#host, this.#registers, code, sourceId, domainId, iovaHigh, iovaLow, access !== Access.READ, this.#isPresent);
    return code;
  }

  #translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): AmdEvent {
    this.frame = 0 as Frame;
    this.root = 0 as Frame;
    this.hit = this.#isPresent = false;
    const refused = this.#table.find(sourceId);
    if (refused !== AmdEvent.NONE) return refused;
    const { passThrough, root, levels, domainId, permissions } = this.#table.requester;
    if (passThrough) {
      this.frame = ((iovaHigh & 0xfffff) * 0x100000 + (iovaLow >>> 12)) as Frame;
      return (access & ~permissions) === 0 ? AmdEvent.NONE : AmdEvent.IO_PAGE_FAULT;
    }
    const walked = this.#walked;
    walked.tables = this.#tables[levels]!;
    walked.root = root;
    walked.name = this.root = firstRootOf(this.#host.ram, root, levels);
    walked.tag = domainId;
    walked.permissions = permissions;
    const fault = this.#walk.translate(walked, sourceId, iovaHigh, iovaLow, access, epoch);
    this.hit = this.#walk.hit;
    this.#isPresent = fault === WalkFault.READ_DENIED || fault === WalkFault.WRITE_DENIED;
    if (fault === WalkFault.NONE) this.frame = this.#walk.frame;
    return eventOf(fault);
  }
}

function eventOf(fault: WalkFault): AmdEvent {
  if (fault === WalkFault.NONE) return AmdEvent.NONE;
  return fault === WalkFault.TABLE_ACCESS ? AmdEvent.PAGE_TAB_HARDWARE_ERROR : AmdEvent.IO_PAGE_FAULT;
}
