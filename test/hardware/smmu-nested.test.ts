/** Translation through both stages in an SMMUv3, against plain maps; whose lines an invalidation drops; what a fault says. */
import { peek, poke } from '#hostmem/atomics';
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { IommuDomain } from '#src/drivers/domain';
import { DomainFlags, IommuDevice } from '#src/drivers/driver';
import { SmmuDriver } from '#src/drivers/smmuv3/driver';
import { steOf } from '#src/drivers/smmuv3/nested';
import { PciFunction } from '#src/hardware/function';
import { installedRoot } from '#src/hardware/installed-root';
import { iotlbLines } from '#src/hardware/iotlb';
import { nestedName } from '#src/hardware/nested-line';
import { descriptorOf } from '#src/hardware/smmuv3/context-descriptor';
import { Opcode, type Command } from '#src/hardware/smmuv3/commands';
import { EventClass, SmmuEvent, takeSmmuRecords } from '#src/hardware/smmuv3/events';
import { Config } from '#src/hardware/smmuv3/stream-table';
import { taggedLines } from '#src/hardware/tagged-cache';
import { IommuUnit } from '#src/hardware/unit';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { smallVendor, type SmallVendorOptions } from '../drivers/small-vendor.ts';
import { Interposer } from './small-machine.ts';

const format = smmuStage1(4);
const guestOwner = 17;
const [readOnly, readWrite] = [1, 3] as const;
/** Pages of a guest: its descriptor, at 0x40 within the page, and its tables from there on. */
const [descriptorPage, tablesPage] = [0x80, 0x100] as const;
const descriptorGpa = descriptorPage * 4096 + 0x40;
const asid = 3;
const iova = 0x12345;
const page = 0x40;

type Small = ReturnType<typeof smallVendor>;

/** A guest whose one device goes through both stages. */
class Guest {
  readonly driver: SmmuDriver;
  readonly parent: Ref<'IommuDomain'>;
  readonly nested: Ref<'IommuDomain'>;
  readonly viommu: number;
  readonly #small: Small;
  readonly #index: number;
  readonly #frames = new Map<number, Frame>();
  #tables = 1;

  constructor(small: Small, index = 0, config: number = Config.STAGE1) {
    this.#small = small;
    this.#index = index;
    this.driver = small.driver as SmmuDriver;
    const [pciFunction] = [small.functions[index]!];
    this.parent = this.driver.allocPagingDomain(pciFunction, DomainFlags.NEST_PARENT);
    this.viommu = this.driver.viommuInit(pciFunction, this.parent, { type: 1, bytes: new Uint8Array(0) }, 0).viommu;
    this.driver.vdeviceInit(this.viommu, pciFunction, 1n);
    this.back(tablesPage);
    this.back(descriptorPage);
    this.describe(tablesPage);
    this.nested = this.driver.viommuAllocNested(this.viommu, 0, { type: 2, bytes: steOf(descriptorGpa, config) });
    expect(this.driver.attach(this.nested, pciFunction)).toBe(0);
  }

  describe(root: number): void {
    const at = this.#frames.get(descriptorPage)! * 4096 + 0x40;
    descriptorOf(asid, root as Frame).forEach((word, index) => poke(this.#small.host.ram, at + index * 4, word));
  }

  /** Gives a guest page a frame, every word of which is the page's number, and maps it in the parent. */
  back(guestPage: number, permissions: number = readWrite): Frame {
    const { frames, ram } = this.#small.host;
    const frame = this.#frames.get(guestPage) ?? frames.allocate(guestOwner);
    if (!this.#frames.has(guestPage) && guestPage < tablesPage && guestPage !== descriptorPage) ram.words.fill(guestPage, frame * 1024, frame * 1024 + 1024);
    this.#frames.set(guestPage, frame);
    expect(this.driver.map(this.parent, 0, guestPage << 12, frame, permissions)).toBe(0);
    return frame;
  }

  unback(guestPage: number): void {
    expect(this.driver.unmap(this.parent, 0, guestPage << 12, 1)).toBe(1);
    this.driver.sync(this.parent, 0, guestPage << 12, 1, true);
  }

  /** Host address of the stage-1 entry of a level for an IOVA's page; makes the tables above it. */
  entryAt(iovaPage: number, level: number): number {
    const { ram } = this.#small.host;
    let table = tablesPage;
    for (let at = 4; ; at--) {
      const entry = this.#frames.get(table)! * 4096 + (Math.floor(iovaPage / 512 ** (at - 1)) % 512) * 8;
      if (at === level) return entry;
      if (peek(ram, entry) === 0) {
        const made = tablesPage + this.#tables++;
        this.back(made);
        poke(ram, entry, format.tableLow(made as Frame, at));
      }
      table = peek(ram, entry) >>> 12;
    }
  }

  map(iovaPage: number, guestPage: number, permissions: number = readWrite): void {
    poke(this.#small.host.ram, this.entryAt(iovaPage, 1), format.leafLow(guestPage as Frame, permissions, 1));
  }
  unmap(iovaPage: number): void {
    poke(this.#small.host.ram, this.entryAt(iovaPage, 1), 0);
  }

  invalidate(...commands: Command[]): void {
    const asked = { type: 1, entryBytes: 16, count: commands.length, bytes: new Uint8Array(Int32Array.from(commands.flat()).buffer), handled: 0 };
    expect(this.driver.viommuInvalidate(this.viommu, asked)).toBe(0);
  }

  /** 0, or the event's type. */
  dma(iovaPage: number, write = false): number {
    const engine = this.#small.engines[this.#index]!;
    const [high, low] = [Math.floor(iovaPage / 2 ** 20) | 0, iovaPage << 12];
    return write ? engine.write(high, low, 4) : engine.read(high, low, 4);
  }

  /** What a read finds: the page's number, or that it faults. */
  sees(iovaPage: number): number | 'fault' {
    return this.dma(iovaPage) === 0 ? this.#small.engines[this.#index]!.bufferWord(0) : 'fault';
  }
}

const guestOf = (options: SmallVendorOptions = {}): { small: Small; guest: Guest } => {
  const small = smallVendor('smmuv3', options);
  return { small, guest: new Guest(small) };
};
const ofVa = (iovaPage: number, ofAsid: number = asid): Command => [Opcode.TLBI_NH_VA, ofAsid << 16, iovaPage << 12, 0];

test('a page is reached through both stages: four reads to the descriptor, 24 for a walk of four levels each', () => {
  const { small, guest } = guestOf({ caches: 'off' });
  guest.back(page);
  guest.map(iova, page);
  const watch = new Interposer(small.host);
  watch.during(() => expect(guest.sees(iova)).toBe(page));
  expect(watch.points.filter((name) => name.startsWith('SmmuStage1'))).toHaveLength(4);
  expect(watch.points.filter((name) => name.startsWith('SmmuStage2'))).toHaveLength(4 + 20);
});

test('both stages agree with two plain maps, whatever is mapped in either', () => {
  const iovas = fc.integer({ min: 0, max: 7 }).map((n) => 0x10000 + n * 0x8001);
  const pages = fc.integer({ min: 0x40, max: 0x47 });
  const permissions = fc.constantFrom(readOnly, readWrite);
  fc.assert(fc.property(fc.array(fc.tuple(iovas, pages, permissions)), fc.array(fc.tuple(pages, permissions)), (first, second) => {
    const { guest } = guestOf();
    const [stage1, stage2] = [new Map<number, readonly [number, number]>(), new Map<number, number>()];
    for (const [guestPage, granted] of second) {
      if (stage2.has(guestPage)) continue;
      guest.back(guestPage, granted);
      stage2.set(guestPage, granted);
    }
    for (const [at, guestPage, granted] of first) {
      guest.map(at, guestPage, granted);
      stage1.set(at, [guestPage, granted]);
    }
    for (let n = 0; n < 8; n++) {
      const at = 0x10000 + n * 0x8001;
      const [guestPage, granted] = stage1.get(at) ?? [0, 0];
      const both = granted & (stage2.get(guestPage) ?? 0);
      // Twice: from the tables and from the cache.
      for (let time = 0; time < 2; time++) expect([guest.sees(at), guest.dma(at, true) === 0]).toEqual([both === 0 ? 'fault' : guestPage, both === readWrite]);
    }
  }), { numRuns: 30 });
});

test('an event says which stage refused what, and of stage 2 the guest\'s address', () => {
  const { small, guest } = guestOf({ caches: 'off' });
  guest.back(page);
  guest.map(iova, page, readOnly);
  const told = (write = false): readonly unknown[] => {
    guest.dma(iova, write);
    return takeSmmuRecords(small.host, small.smmu).map(({ type, stage2, class: ofClass, ipaPage }) => [type, stage2, ofClass, ipaPage]);
  };
  expect(told()).toEqual([]);
  expect(told(true)).toEqual([[SmmuEvent.F_PERMISSION, false, EventClass.INPUT, 0]]);
  for (const [missing, ofClass] of [[page, EventClass.INPUT], [tablesPage, EventClass.TABLE], [tablesPage + 3, EventClass.TABLE], [descriptorPage, EventClass.DESCRIPTOR]] as const) {
    guest.unback(missing);
    expect(told()).toEqual([[SmmuEvent.F_TRANSLATION, true, ofClass, missing]]);
    guest.back(missing);
  }
  guest.unmap(iova);
  expect(told()).toEqual([[SmmuEvent.F_TRANSLATION, false, EventClass.INPUT, 0]]);
  poke(small.host.ram, guest.entryAt(iova, 1), format.leafLow(page as Frame, readWrite, 1) & ~format.accessedBit);
  expect(told()).toEqual([[SmmuEvent.F_ACCESS, false, EventClass.INPUT, 0]]);
  guest.describe(0);
  expect(guest.dma(0x10_0000_0000)).toBe(SmmuEvent.F_TRANSLATION);
});

test('an entry of a guest that aborts, or bypasses its stage 1, has nothing or stage 2 alone', () => {
  const small = smallVendor('smmuv3');
  const bypassing = new Guest(small, 0, Config.BYPASS);
  bypassing.back(page);
  expect([bypassing.sees(page), bypassing.sees(iova)]).toEqual([page, 'fault']);
  expect(new Guest(small, 1, Config.ABORT).dma(page)).toBe(SmmuEvent.ABORTED);
});

test('hardware and the driver name the pair of tables alike, by where the descriptor is', () => {
  const { small, guest } = guestOf();
  const name = nestedName(descriptorPage, IommuDomain.root.peek(small.host.kernel, guest.parent));
  expect([IommuDomain.root.peek(small.host.kernel, guest.nested), installedRoot(small.host, small.functions[0]!)]).toEqual([name, name]);
});

test.each([
  ['NH_VA of the page', ofVa(iova), [true, false]],
  ['NH_VA of it in another address space', ofVa(iova, asid + 1), [false, false]],
  ['NH_VAA of the page', [Opcode.TLBI_NH_VAA, 0, iova << 12, 0], [true, false]],
  ['NH_ASID', [Opcode.TLBI_NH_ASID, asid << 16, 0, 0], [true, true]],
  ['NH_ALL', [Opcode.TLBI_NH_ALL, 0, 0, 0], [true, true]],
  ['NSNH_ALL', [Opcode.TLBI_NSNH_ALL, 0, 0, 0], [true, true]],
] as const)('a guest\'s %s drops what it names, and of no other guest with the same addresses and ASIDs', (_name, command, dropped) => {
  const small = smallVendor('smmuv3');
  const guests = [new Guest(small, 0), new Guest(small, 1)] as const;
  for (const guest of guests) {
    for (const at of [iova, iova + 1]) {
      guest.back(page + at - iova);
      guest.map(at, page + at - iova);
      expect(guest.sees(at)).toBe(page + at - iova);
      guest.unmap(at);
    }
  }
  const [own, other] = guests;
  own.invalidate(command);
  expect([iova, iova + 1].map((at) => own.sees(at) === 'fault')).toEqual(dropped);
  expect([iova, iova + 1].map((at) => other.sees(at))).toEqual([page, page + 1]);
});

test('a descriptor that the guest has changed is in force once it had its unit forget the old one', () => {
  const { guest } = guestOf();
  guest.back(page);
  guest.map(iova, page);
  expect(guest.sees(iova)).toBe(page);
  const empty = tablesPage + 0x20;
  guest.back(empty);
  guest.describe(empty);
  guest.invalidate([Opcode.TLBI_NH_ALL, 0, 0, 0]);
  expect(guest.sees(iova)).toBe(page);
  guest.invalidate([Opcode.CFGI_CD, 1, 1, 0], [Opcode.TLBI_NH_ALL, 0, 0, 0]);
  expect(guest.sees(iova)).toBe('fault');
});

test('a page that the host takes out of stage 2 is reached through no line of both stages', () => {
  const { guest } = guestOf();
  guest.back(page);
  guest.map(iova, page);
  expect(guest.sees(iova)).toBe(page);
  guest.unback(page);
  expect(guest.sees(iova)).toBe('fault');
});

test('a device that leaves leaves nothing under its VMID, and what is attached in its place sees its own', () => {
  const { small, guest } = guestOf();
  const { host, functions } = small;
  guest.back(page);
  guest.map(iova, page);
  expect(guest.sees(iova)).toBe(page);
  const unit = PciFunction.unit.peek(host.kernel, functions[0]!);
  const cached = (): number[] => [
    iotlbLines(host.kernel, IommuUnit.iotlb.peek(host.kernel, unit)).length,
    taggedLines(host.kernel, IommuUnit.contextCache.peek(host.kernel, unit)).length,
    taggedLines(host.kernel, IommuUnit.pasidCache.peek(host.kernel, unit)).length,
  ];
  expect(cached()).toEqual([1, 1, 1]);
  expect(guest.driver.attach(guest.driver.blockedDomain, functions[0]!)).toBe(0);
  expect(cached()).toEqual([0, 0, 0]);
  expect(guest.sees(iova)).toBe('fault');
  expect(IommuDevice.domain.peek(host.kernel, PciFunction.driverData.peek(host.kernel, functions[0]!) as Ref<'IommuDevice'>)).toBe(0);
  expect(guest.driver.attach(guest.parent, functions[0]!)).toBe(0);
  expect([guest.sees(page), guest.sees(iova)]).toEqual([page, 'fault']);
  expect(guest.driver.attach(guest.nested, functions[0]!)).toBe(0);
  expect([guest.sees(page), guest.sees(iova)]).toEqual(['fault', page]);
});
