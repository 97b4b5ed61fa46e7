/** Translation through two stages in VT-d's hardware, against plain maps. */
import { peek, poke } from '#hostmem/atomics';
import { labelText } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import { IommuDomain } from '#src/drivers/domain';
import { installedRoot } from '#src/hardware/installed-root';
import { isNestedName, nestedName, secondRootOf } from '#src/hardware/nested-line';
import { ScalableReason } from '#src/hardware/vtd/faults';
import { WalkStep } from '#src/hardware/vtd/nested-walk';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { GuestMachine, nestedUnit, tablesPage } from './guest-machine.ts';
import { firstPasidEntry, Interposer, smallMachine } from './small-machine.ts';

const iova = 0x12345;
const page = 0x40;
const uncached = { ...nestedUnit, caches: 'off' } as const;

test('a page is reached through both stages, and a walk of four levels each reads 24 entries', () => {
  const guest = new GuestMachine(uncached);
  const frame = guest.back(page);
  guest.map(iova, page);
  poke(guest.small.host.ram, frame * 4096, 0x77);
  const watch = new Interposer(guest.small.host);
  watch.during(() => expect(guest.dma(iova)).toBe(0));
  expect(guest.small.engines[0]!.bufferWord(0)).toBe(0x77);
  expect(watch.points.filter((name) => name.startsWith('VtdFirstStage'))).toHaveLength(4);
  expect(watch.points.filter((name) => name.startsWith('VtdSecondStage'))).toHaveLength(20);
  const { translation } = guest.small.machine.units[0]!;
  expect([translation.nested.guestPage, translation.frame, isNestedName(translation.root)]).toEqual([page, frame, true]);
});

test('hardware and reports name the pair of tables alike', () => {
  const guest = new GuestMachine();
  const { host, functions } = guest.small;
  const second = IommuDomain.root.peek(host.kernel, guest.parent);
  const name = nestedName(tablesPage, second);
  expect([IommuDomain.root.peek(host.kernel, guest.nested), installedRoot(host, functions[0]!)]).toEqual([name, name]);
  expect([secondRootOf(name), isNestedName(name), isNestedName(second), isNestedName(-1)]).toEqual([second, true, false, false]);
});

test('a fault says which stage refused, whether on the way to a table or to the page, and the guest\'s address', () => {
  const guest = new GuestMachine(uncached);
  const { ram } = guest.small.host;
  const end = (write: boolean = false): number[] => {
    const reason = guest.dma(iova, write);
    const { step, accessed } = guest.small.machine.units[0]!.translation.nested;
    return [reason, step, accessed];
  };
  const [third, lowest] = [tablesPage + 1, tablesPage + 3];
  guest.back(page);
  guest.map(iova, page);
  expect(guest.dma(iova)).toBe(0);
  guest.unback(page);
  expect(end()).toEqual([ScalableReason.SECOND_STAGE_NOT_PRESENT, WalkStep.PAGE, page]);
  for (const [table, reason] of [[tablesPage, ScalableReason.ROOT_NOT_READABLE], [third, ScalableReason.TABLE_NOT_READABLE], [lowest, ScalableReason.TABLE_NOT_READABLE]] as const) {
    guest.unback(table);
    expect(end()).toEqual([reason, WalkStep.TABLE_READ, table]);
    guest.back(table);
  }
  const leaf = guest.entryAt(iova, 1);
  poke(ram, leaf + 4, 0x10000);
  expect(end()).toEqual([ScalableReason.BEYOND_SECOND_STAGE, WalkStep.PAGE, 0x10000 * 2 ** 20 + page]);
  const upper = guest.entryAt(iova, 3);
  poke(ram, upper + 4, 0x10000);
  expect(guest.dma(iova)).toBe(ScalableReason.TABLE_BEYOND_SECOND_STAGE);
  poke(ram, upper + 4, 0);
  guest.back(page);
  guest.map(iova, page, false);
  expect(end(true)[0]).toBe(ScalableReason.WRITE_DENIED);
  poke(ram, guest.entryAt(iova, 2), peek(ram, guest.entryAt(iova, 2)) & ~4);
  expect(guest.dma(iova)).toBe(ScalableReason.SUPERVISOR_PAGE);
  poke(ram, guest.entryAt(iova, 2), peek(ram, guest.entryAt(iova, 2)) | 4 | 0x80);
  expect(guest.dma(iova)).toBe(ScalableReason.FIRST_STAGE_RESERVED);
  guest.unmap(iova + 512 * 512);
  expect(guest.dma(iova + 512 * 512)).toBe(ScalableReason.FIRST_STAGE_NOT_PRESENT);
  expect(guest.dma(0x8_0000_0000)).toBe(ScalableReason.NOT_CANONICAL);
});

test('a fault of two stages is recorded by the address that the device asked for', () => {
  const guest = new GuestMachine(uncached);
  guest.map(iova, page);
  expect(guest.dma(iova)).toBe(ScalableReason.SECOND_STAGE_NOT_PRESENT);
  expect(guest.small.faults()).toEqual([{ iovaHigh: 0, iovaLow: iova << 12, sourceId: 0x0108, reason: ScalableReason.SECOND_STAGE_NOT_PRESENT, write: false }]);
});

test('accessed and dirty bits are set in the guest\'s entries, for which the second stage has to grant writes', () => {
  const guest = new GuestMachine(uncached);
  const { driver, host, machine } = guest.small;
  guest.back(page);
  guest.map(iova, page, true, 0);
  const leaf = guest.entryAt(iova, 1);
  expect([guest.dma(iova), peek(host.ram, leaf) & 0x60]).toEqual([0, 0x20]);
  expect([guest.dma(iova, true), peek(host.ram, leaf) & 0x60]).toEqual([0, 0x60]);
  guest.map(iova, page, true, 0);
  // The page of the guest's lowest table becomes read-only in the second stage.
  const { second } = machine.units[0]!.translation.nested;
  driver.translate(guest.parent, 0, (tablesPage + 3) << 12, second);
  poke(host.ram, second.entryAt, peek(host.ram, second.entryAt) & ~2);
  expect([guest.dma(iova), peek(host.ram, leaf) & 0x60]).toEqual([ScalableReason.TABLE_NOT_WRITABLE, 0]);
});

/** Acts at the n-th point with a label. */
class AtNth extends Interposer {
  #left: number;
  readonly #label: string;
  readonly #act: () => void;

  constructor(guest: GuestMachine, n: number, label: string, act: () => void) {
    super(guest.small.host);
    this.#left = n;
    this.#label = label;
    this.#act = act;
  }

  override point(op: number, memory: Memory, at: number, label: number): void {
    super.point(op, memory, at, label);
    if (labelText(label) === this.#label && --this.#left === 0) this.#act();
  }
}

test('an entry that the guest changes between its read and the exchange is walked to anew, and no bit appears in what was written', () => {
  const guest = new GuestMachine(uncached);
  const { ram } = guest.small.host;
  poke(ram, guest.back(page) * 4096, 1);
  poke(ram, guest.back(page + 1) * 4096, 2);
  guest.map(iova, page, true, 0);
  const changes = new AtNth(guest, 2, 'VtdFirstStage.level1', () => guest.map(iova, page + 1, true, 0x20));
  changes.during(() => expect(guest.dma(iova)).toBe(0));
  expect(guest.small.engines[0]!.bufferWord(0)).toBe(2);
  expect(peek(ram, guest.entryAt(iova, 1)) & 0x60).toBe(0x20);
});

test('a translation of both stages is cached under the nested domain and its PASID, and a write through a clean leaf comes back to it', () => {
  const guest = new GuestMachine();
  const { machine, host } = guest.small;
  guest.back(page);
  guest.map(iova, page, true, 0x20);
  const { translation } = machine.units[0]!;
  expect([guest.dma(iova), guest.dma(iova), translation.hit]).toEqual([0, 0, true]);
  expect([guest.dma(iova, true), translation.hit, peek(host.ram, guest.entryAt(iova, 1)) & 0x40]).toEqual([0, false, 0x40]);
  expect([guest.dma(iova, true), translation.hit]).toEqual([0, true]);
});

test('what the guest unmaps is reached until its invalidation, and not after it', () => {
  const guest = new GuestMachine();
  guest.back(page);
  for (const at of [iova, iova + 1, iova + 600]) guest.map(at, page);
  for (const at of [iova, iova + 1, iova + 600]) expect(guest.dma(at)).toBe(0);
  for (const at of [iova, iova + 1, iova + 600]) guest.unmap(at);
  expect([iova, iova + 1, iova + 600].map((at) => guest.dma(at))).toEqual([0, 0, 0]);
  guest.invalidate(iova, 1);
  expect([iova, iova + 1, iova + 600].map((at) => guest.dma(at) === 0)).toEqual([false, true, true]);
  guest.invalidate(0, 2 ** 52);
  expect([iova + 1, iova + 600].map((at) => guest.dma(at) === 0)).toEqual([false, false]);
});

test('what is taken out of the parent is reached by no cache afterwards, whatever IOVA leads to it', () => {
  const guest = new GuestMachine();
  guest.back(page);
  for (const at of [iova, 7]) guest.map(at, page);
  for (const at of [iova, 7]) expect(guest.dma(at)).toBe(0);
  guest.unback(page, false);
  expect([iova, 7].map((at) => guest.dma(at))).toEqual([0, 0]);
  guest.small.driver.sync(guest.parent, 0, page << 12, 1, true);
  expect([iova, 7].map((at) => guest.dma(at))).toEqual([ScalableReason.SECOND_STAGE_NOT_PRESENT, ScalableReason.SECOND_STAGE_NOT_PRESENT]);
});

test('a device\'s own cache is emptied as a whole when the parent changes, and by address when the guest says so', () => {
  const guest = new GuestMachine({ ...nestedUnit, ats: true });
  guest.back(page);
  guest.back(page + 1);
  for (const at of [iova, 7]) guest.map(at, page);
  for (const at of [iova, 7]) expect(guest.dma(at)).toBe(0);
  guest.unmap(7);
  expect(guest.dma(7)).toBe(0);
  guest.invalidate(7, 1);
  expect([guest.dma(7) === 0, guest.dma(iova)]).toEqual([false, 0]);
  guest.unback(page);
  expect(guest.dma(iova)).not.toBe(0);
});

test('a unit without ECAP.NEST refuses an entry of both stages', () => {
  const { extendedCapability, ...rest } = uncached;
  const guest = new GuestMachine(uncached);
  guest.back(page);
  guest.map(iova, page);
  expect(guest.dma(iova)).toBe(0);
  const other = smallMachine({ ...rest, extendedCapability: extendedCapability! & ~(1n << 26n) });
  const own = other.driver.allocPagingDomain(other.functions[0]!, 0);
  expect(other.driver.attach(own, other.functions[0]!)).toBe(0);
  const pasidAt = firstPasidEntry(other);
  poke(other.host.ram, pasidAt, (peek(other.host.ram, pasidAt) & ~0x1c0) | (3 << 6));
  expect(other.engines[0]!.read(0, 0x1000, 4)).toBe(ScalableReason.PASID_INVALID);
});

/** A step of a random guest: pages are few, so that they meet. */
const few = (count: number): fc.Arbitrary<number> => fc.nat(count - 1);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('map' as const), at: few(6), page: few(6), writable: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unmap' as const), at: few(6) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('back' as const), page: few(6) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('unback' as const), page: few(6) }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('dma' as const), at: few(6), write: fc.boolean() }) },
);
/** IOVA pages far apart and close together, on both sides of the sign. */
const iovas = [5, 6, 517, 0x40_0000, 0x7_ffff_ffff, 0xf_ffff_8000_0000] as const;

test.each([['with caches', nestedUnit], ['without', uncached], ['with ATS', { ...nestedUnit, ats: true }]])('random programs of a guest and its host answer as two plain maps do, %s', (_name, unit) => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 80 }), (program) => {
      const guest = new GuestMachine(unit);
      const first = new Map<number, { page: number; writable: boolean }>();
      const second = new Set<number>();
      for (const one of program) {
        if (one.kind === 'map' || one.kind === 'unmap') {
          if (one.kind === 'map') guest.map(iovas[one.at]!, page + one.page, one.writable);
          else guest.unmap(iovas[one.at]!);
          guest.invalidate(iovas[one.at]! % 2 ** 52, 1);
          if (one.kind === 'map') first.set(one.at, one);
          else first.delete(one.at);
        } else if (one.kind === 'back' && !second.has(one.page)) {
          poke(guest.small.host.ram, guest.back(page + one.page) * 4096, 0x1000 + one.page);
          second.add(one.page);
        } else if (one.kind === 'unback' && second.delete(one.page)) guest.unback(page + one.page);
        else if (one.kind === 'dma') {
          const leaf = first.get(one.at);
          const reachable = leaf !== undefined && second.has(leaf.page) && (!one.write || leaf.writable);
          if (one.write && reachable) guest.small.engines[0]!.setBufferWord(0, 0x1000 + leaf.page);
          expect([one.kind, guest.dma(iovas[one.at]!, one.write) === 0]).toEqual([one.kind, reachable]);
          if (reachable) expect(guest.small.engines[0]!.bufferWord(0)).toBe(0x1000 + leaf.page);
        }
      }
    }),
    { numRuns: 40, seed: 3 },
  );
});
