/**
 * A translation through both stages, caches off: context, PASID directory and entry, then a guest's tables of four levels in guest memory, each access
 * to them, and the page, through four levels of the second stage: 24 entries (SEMANTICS c.10). Against the same loads from a bare Int32Array, each
 * looked at for being present. Of 1k pages, in an order that looks random.
 */
import { poke } from '#hostmem/atomics';
import { Host } from '#hostmem/host';
import { frameOf, hpaOf, type Frame } from '#hostmem/memory';
import { Access } from '#hostmem/page-table-format';
import { DomainFlags } from '#src/drivers/driver';
import { vtdS1Bytes, vtdS1Data } from '#src/drivers/vtd/nested';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { Machine } from '#src/hardware/machine';
import type { TranslationUnit } from '#src/hardware/translation-unit';
import { IommuUnit } from '#src/hardware/unit';
import { VtdRegisters } from '#src/hardware/vtd/registers';
import { contextEntryAt, rootHalfAt } from '#src/hardware/vtd/scalable-entry';
import { shuffled } from '../shuffled.ts';
import type { Question } from '../question.ts';

const pages = 1024;
const rid = 0x0108;
/** A process's. */
const guestOwner = 17;
/** Pages of the guest: a table of each level, one more of the lowest, and from `firstPage` on what they lead to. */
const [rootPage, lowestPage, firstPage] = [1, 4, 6];
/** Present, writable, of users, accessed and dirty: nothing is left to be marked. */
const used = 0x67;

interface Place {
  readonly unit: TranslationUnit;
  readonly words: Int32Array;
  /** Byte address of the function's context entry. */
  readonly contextAt: number;
  /** Low words of the IOVAs. */
  readonly order: Int32Array;
}

function attached(seed: number): Place {
  const host = Host.create(12 << 20, 2 << 20);
  Machine.create(host);
  const added = Machine.addUnit(host, { mode: 'vtd-nested', caches: 'off' });
  const nic = Machine.addFunction(host, added, { rid });
  const machine = new Machine(host);
  VtdDriver.boot(host, machine);
  const driver = new VtdDriver(host, machine);
  driver.probe(nic);
  const parent = driver.allocPagingDomain(nic, DomainFlags.NEST_PARENT);
  const frames = Array.from({ length: firstPage + pages }, () => host.frames.allocate(guestOwner));
  frames.forEach((frame, page) => driver.map(parent, 0, page << 12, frame, Access.READ | Access.WRITE));
  layTables(host, frames);
  driver.attach(driver.allocNestedDomain(nic, parent, 0, { type: vtdS1Data, bytes: firstStage() }), nic);
  const registers = IommuUnit.registers.peek(host.kernel, added) as Parameters<typeof VtdRegisters.rootTable.peek>[1];
  const rootTable = frameOf(VtdRegisters.rootTable.peek(host.kernel, registers));
  const contextAt = contextEntryAt(frameOf(host.ram.words[rootHalfAt(rootTable, rid) >>> 2]!), rid);
  const order = Int32Array.from(shuffled(pages, seed), (page) => page << 12);
  return { unit: machine.unit(added).translation, words: host.ram.words, contextAt, order };
}

/** The guest's: from IOVA 0 on, page after page. */
function layTables(host: Host, frames: readonly Frame[]): void {
  const put = (table: number, index: number, page: number): void => poke(host.ram, hpaOf(frames[table]!) + index * 8, (page << 12) | used);
  for (let table = rootPage; table < lowestPage; table++) put(table, 0, table + 1);
  put(lowestPage - 1, 1, lowestPage + 1);
  for (let page = 0; page < pages; page++) put(lowestPage + (page >>> 9), page & 511, firstPage + page);
}

function firstStage(): Uint8Array {
  const data = new Uint8Array(vtdS1Bytes);
  new DataView(data.buffer).setBigUint64(8, BigInt(rootPage * 4096), true);
  new DataView(data.buffer).setUint32(16, 48, true);
  return data;
}

function translateAll({ unit, order }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const reason = unit.translate(rid, 0, order[i & (pages - 1)]!, Access.READ, 0);
    sum = (sum + unit.frame + reason) | 0;
  }
  return sum;
}

function loadAll({ words, contextAt, order }: Place, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum = (sum + bareTranslation(words, contextAt, order[i & (pages - 1)]!)) | 0;
  return sum;
}

/** What a translation cannot do without. */
function bareTranslation(words: Int32Array, contextAt: number, low: number): number {
  const context = words[contextAt >>> 2]!;
  if ((context & 1) === 0) return -1;
  const directory = words[(context >>> 12) << 10]!;
  if ((directory & 1) === 0) return -1;
  const entry = (directory >>> 12) << 10;
  if ((words[entry]! & 1) === 0) return -1;
  const second = words[entry]! >>> 12;
  let page = words[entry + 4]! >>> 12;
  for (let shift = 39; shift >= 12; shift -= 9) {
    const frame = bareSecond(words, second, page);
    if (frame < 0) return -1;
    const found = words[(frame << 10) + ((shift < 32 ? (low >>> shift) & 511 : 0) << 1)]!;
    if ((found & 1) === 0) return -1;
    page = found >>> 12;
  }
  return bareSecond(words, second, page);
}

function bareSecond(words: Int32Array, root: number, page: number): number {
  const fourth = words[(root << 10) + (((page >>> 27) & 511) << 1)]!;
  if ((fourth & 3) === 0) return -1;
  const third = words[((fourth >>> 12) << 10) + (((page >>> 18) & 511) << 1)]!;
  if ((third & 3) === 0) return -1;
  const table = words[((third >>> 12) << 10) + (((page >>> 9) & 511) << 1)]!;
  if ((table & 3) === 0) return -1;
  const first = words[((table >>> 12) << 10) + ((page & 511) << 1)]!;
  return (first & 3) === 0 ? -1 : first >>> 12;
}

export default {
  asks: 'what does a translation through the tables of a guest and of its host cost, and how much of it are the loads?',
  prepare(tiny, { seed }) {
    const place = attached(seed);
    const operations = tiny ? pages : 8 * pages;
    return {
      rows: [
        { name: 'bare loads/1k', operations, call: () => loadAll(place, operations) },
        { name: 'vtd/1k', operations, against: 'bare loads/1k', call: () => translateAll(place, operations) },
      ],
    };
  },
} satisfies Question;
