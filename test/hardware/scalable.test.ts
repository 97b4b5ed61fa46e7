import { peek, poke } from '#hostmem/atomics';
import { frameOf, type Frame } from '#hostmem/memory';
import { Access } from '#hostmem/page-table-format';
import { WalkResult } from '#hostmem/page-walk';
import { installedRoot, passesThrough } from '#src/hardware/installed-root';
import { PciFunction } from '#src/hardware/function';
import { IommuDomain } from '#src/drivers/domain';
import { FaultReason, ScalableReason } from '#src/hardware/vtd/faults';
import { VtdRegisters } from '#src/hardware/vtd/registers';
import * as entry from '#src/hardware/vtd/scalable-entry';
import type { VtdUnitOptions } from '#src/hardware/machine';
import { expect, test } from 'vitest';
import { firstStageUnit, Interposer, scalableUnit, smallMachine, type SmallMachine } from './small-machine.ts';

const rootTable = (small: SmallMachine): Frame => frameOf(VtdRegisters.rootTable.peek(small.host.kernel, small.registers));

interface Attached extends SmallMachine {
  readonly domain: ReturnType<SmallMachine['driver']['allocPagingDomain']>;
  readonly frame: Frame;
  /** Byte addresses of the entries of the first function's requests. */
  readonly rootAt: number;
  readonly contextAt: number;
  readonly directoryAt: number;
  readonly pasidAt: number;
}

/** A machine whose first function is attached to a domain with one page at 0x1000. */
function attached(options: VtdUnitOptions): Attached {
  const small = smallMachine(options);
  const { ram } = small.host;
  const domain = small.driver.allocPagingDomain(small.functions[0]!, 0);
  expect(small.driver.attach(domain, small.functions[0]!)).toBe(0);
  const frame = small.host.frames.allocate(16);
  expect(small.driver.map(domain, 0, 0x1000, frame, 3)).toBe(0);
  const rootAt = entry.rootHalfAt(rootTable(small), 0x0108);
  const contextAt = entry.contextEntryAt(frameOf(peek(ram, rootAt)), 0x0108);
  const directoryAt = entry.directoryEntryAt(frameOf(peek(ram, contextAt)), 0);
  const pasidAt = entry.pasidEntryAt(frameOf(peek(ram, directoryAt)), 0);
  return { ...small, domain, frame, rootAt, contextAt, directoryAt, pasidAt };
}

test('anchor W6: PASID 0x12345 is entry 5 of the table that directory entry 0x48d names', () => {
  expect(entry.directoryEntryAt(1 as Frame, 0x12345)).toBe(0x1000 + 0x48d * 8);
  expect(entry.pasidEntryAt(1 as Frame, 0x12345)).toBe(0x1000 + 5 * 64);
});

test('a root entry has a half for each 16 devices of a bus', () => {
  expect([0x0107, 0x017f, 0x0180, 0x01ff].map((id) => entry.rootHalfAt(1 as Frame, id) - 0x1000)).toEqual([16, 16, 24, 24]);
  expect([0x0107, 0x0187].map((id) => entry.contextEntryAt(2 as Frame, id) - 0x2000)).toEqual([7 * 32, 7 * 32]);
});

/** Every way in which the tables of a request can be wrong: what is changed, how, and the reason. */
const wrongs: readonly [keyof Attached, number, (old: number) => number, number][] = [
  ['rootAt', 0, (old) => old & ~1, ScalableReason.ROOT_NOT_PRESENT],
  ['rootAt', 0, (old) => old | 0x10, ScalableReason.ROOT_RESERVED],
  ['rootAt', 0, () => 0xfffff001 | 0, ScalableReason.CONTEXT_ACCESS],
  ['contextAt', 0, (old) => old & ~1, ScalableReason.CONTEXT_NOT_PRESENT],
  ['contextAt', 0, (old) => old | 0x20, ScalableReason.CONTEXT_RESERVED],
  ['contextAt', 8, () => 1 << 21, ScalableReason.CONTEXT_RESERVED],
  ['contextAt', 8, () => 0x8000, ScalableReason.RID_PASID],
  ['contextAt', 0, () => 0xfffff401 | 0, ScalableReason.DIRECTORY_ACCESS],
  ['directoryAt', 0, (old) => old & ~1, ScalableReason.DIRECTORY_NOT_PRESENT],
  ['directoryAt', 0, (old) => old | 4, ScalableReason.DIRECTORY_RESERVED],
  ['directoryAt', 0, () => 0xfffff001 | 0, ScalableReason.PASID_ACCESS],
  ['pasidAt', 0, (old) => old & ~1, ScalableReason.PASID_NOT_PRESENT],
  ['pasidAt', 0, (old) => old | 0x20, ScalableReason.PASID_RESERVED],
  ['pasidAt', 8, (old) => old | 0x10000, ScalableReason.PASID_RESERVED],
  ['pasidAt', 0, (old) => old & ~0x1c0, ScalableReason.PASID_INVALID],
  ['pasidAt', 0, (old) => old | 0x1c0, ScalableReason.PASID_INVALID],
];

const changed = (small: Attached, where: keyof Attached, offset: number, change: (old: number) => number, body: () => void): void => {
  const at = (small[where] as number) + offset;
  const old = peek(small.host.ram, at);
  poke(small.host.ram, at, change(old));
  body();
  poke(small.host.ram, at, old);
};

test.each([['second', scalableUnit], ['first', firstStageUnit]])('each reason between root and PASID entry is given for its cause, %s stage', (_stage, unit) => {
  const small = attached({ ...unit, caches: 'off' });
  for (const [where, offset, change, reason] of wrongs) {
    changed(small, where, offset, change, () => expect([where, small.engines[0]!.read(0, 0x1004, 4)]).toEqual([where, reason]));
    expect(small.faults()).toEqual([{ iovaHigh: 0, iovaLow: 0x1000, sourceId: 0x0108, reason, write: false }]);
  }
  expect(small.engines[0]!.read(0, 0x1000, 4)).toBe(0);
});

test('each reason of the second stage is given for its cause', () => {
  const small = attached({ ...scalableUnit, caches: 'off' });
  const dma = small.engines[0]!;
  small.driver.map(small.domain, 0, 0x2000, small.frame, 1);
  small.driver.map(small.domain, 0, 0x3000, small.frame, 2);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.SECOND_STAGE_NOT_PRESENT);
  expect(dma.write(0, 0x2000, 4)).toBe(ScalableReason.WRITE_DENIED);
  expect(dma.read(0, 0x3000, 4)).toBe(ScalableReason.READ_DENIED);
  expect(dma.read(0x10000, 0, 4)).toBe(ScalableReason.BEYOND_SECOND_STAGE);
  changed(small, 'pasidAt', 0, (old) => (old & 0xfff) | (0xfffff000 | 0), () => expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.SECOND_STAGE_ROOT_ACCESS));
  changed(small, 'pasidAt', 0, (old) => old + 4, () => expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.PASID_INVALID));
  const rootEntry = IommuDomain.root.peek(small.host.kernel, small.domain) * 4096;
  const old = peek(small.host.ram, rootEntry);
  poke(small.host.ram, rootEntry, 0xfffff003 | 0);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.SECOND_STAGE_ACCESS);
  poke(small.host.ram, rootEntry, old | 0x80);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.SECOND_STAGE_RESERVED);
});

test('each reason of the first stage is given for its cause', () => {
  const small = attached({ ...firstStageUnit, caches: 'off' });
  const dma = small.engines[0]!;
  small.driver.map(small.domain, 0, 0x2000, small.frame, 1);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.FIRST_STAGE_NOT_PRESENT);
  expect(dma.write(0, 0x2000, 4)).toBe(ScalableReason.WRITE_DENIED);
  expect(dma.read(0x8000, 0, 4)).toBe(ScalableReason.NOT_CANONICAL);
  expect(dma.read(0xffff8000 | 0, 0, 4)).toBe(ScalableReason.FIRST_STAGE_NOT_PRESENT);
  changed(small, 'pasidAt', 16, () => 0xfffff000 | 0, () => expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.FIRST_STAGE_ROOT_ACCESS));
  changed(small, 'pasidAt', 16, (old) => old | 4, () => expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.PASID_INVALID));
  changed(small, 'pasidAt', 16, (old) => old | 0x100, () => expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.PASID_RESERVED));
  const rootEntry = IommuDomain.root.peek(small.host.kernel, small.domain) * 4096;
  const old = peek(small.host.ram, rootEntry);
  poke(small.host.ram, rootEntry, 0xfffff027 | 0);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.FIRST_STAGE_ACCESS);
  poke(small.host.ram, rootEntry, old | 0x80);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.FIRST_STAGE_RESERVED);
  poke(small.host.ram, rootEntry, old & ~4);
  expect(dma.read(0, 0x9000, 4)).toBe(ScalableReason.SUPERVISOR_PAGE);
});

test('a root table outside RAM, a mode that does not exist, and the one that aborts, which records nothing', () => {
  const small = attached(scalableUnit);
  const { kernel } = small.host;
  const low = VtdRegisters.rootTable.peek(kernel, small.registers);
  const under = (rootTableLow: number): [number, number] => {
    VtdRegisters.rootTable.poke(kernel, small.registers, 0, rootTableLow);
    return [small.engines[0]!.read(0, 0x1000, 4), small.faults().length];
  };
  expect(under(0xfffff400 | 0)).toEqual([ScalableReason.ROOT_ACCESS, 1]);
  expect(under((low & ~0xc00) | 0x800)).toEqual([ScalableReason.ROOT_TABLE_INVALID, 1]);
  expect(under(low | 0xc00)).toEqual([ScalableReason.ROOT_TABLE_INVALID, 0]);
  expect(under(low)).toEqual([0, 0]);
});

test('the recorded emulator names what legacy mode has by its numbers, and anything about PASID tables 0x58', () => {
  const small = attached({ ...scalableUnit, faultReasons: 'recorded', caches: 'off' });
  const [dma, blocked] = small.engines;
  expect(blocked!.read(0, 0x1000, 4)).toBe(0x58);
  expect([dma!.read(0, 0x9000, 4), dma!.write(0, 0x9000, 4), dma!.read(0x10000, 0, 4)]).toEqual([FaultReason.READ_DENIED, FaultReason.WRITE_DENIED, FaultReason.BEYOND_WIDTH]);
  changed(small, 'contextAt', 0, (old) => old & ~1, () => expect(dma!.read(0, 0x1000, 4)).toBe(FaultReason.CONTEXT_NOT_PRESENT));
});

test('a request with PASID needs a context entry that allows it, a PASID with room, and an entry of its own', () => {
  const small = attached({ ...firstStageUnit, caches: 'off' });
  const { translation } = small.machine.units[0]!;
  const ask = (pasid: number): number => translation.translate(0x0108, 0, 0x1000, Access.READ, translation.iotlb.epoch(), pasid);
  expect(ask(0)).toBe(ScalableReason.PASIDS_DISABLED);
  poke(small.host.ram, small.contextAt, peek(small.host.ram, small.contextAt) | entry.pasidsEnabled);
  expect(ask(0)).toBe(0);
  expect(ask(1)).toBe(ScalableReason.PASID_NOT_PRESENT);
  expect(ask(64)).toBe(ScalableReason.DIRECTORY_NOT_PRESENT);
  expect(ask(0x8000)).toBe(ScalableReason.PASID_TOO_LARGE);
  expect(small.faults().map(({ pasid }) => pasid)).toEqual([0, 1, 64, 0x8000]);
  const legacy = smallMachine();
  const unit = legacy.machine.units[0]!.translation;
  expect(unit.translate(0x0108, 0, 0x1000, Access.READ, unit.iotlb.epoch(), 1)).toBe(ScalableReason.PASID_IN_LEGACY_MODE);
});

test('fault recording is disabled by the context, the directory or the PASID entry', () => {
  const small = attached({ ...scalableUnit, caches: 'off' });
  for (const where of ['contextAt', 'directoryAt', 'pasidAt'] as const) {
    changed(small, where, 0, (old) => (old & ~1) | 2, () => expect(small.engines[0]!.read(0, 0x1000, 4)).not.toBe(0));
    changed(small, where, 0, (old) => old | 2, () => expect(small.engines[0]!.read(0, 0x9000, 4)).not.toBe(0));
  }
  expect(small.faults()).toEqual([]);
});

/** What a request sees when a careless writer makes another domain's entry of a live one, two words of it between the unit's fetches. */
function tornRead(fetchBits: 64 | 128 | 512, before: string, words: readonly (readonly [offset: number, value: (old: Attached, other: Attached['domain']) => number])[]): { reason: number; root: number; other: number } {
  const small = attached({ ...firstStageUnit, fetchBits, caches: 'off' });
  const other = small.driver.allocPagingDomain(small.functions[0]!, 0);
  const interposer = new Interposer(small.host);
  let reason = -1;
  interposer.during(
    () => (reason = small.engines[0]!.read(0, 0x1000, 4)),
    before,
    () => words.forEach(([offset, value]) => poke(small.host.ram, small.pasidAt + offset, value(small, other))),
  );
  expect(interposer.points).toContain(before);
  const root = small.machine.units[0]!.translation.root;
  return { reason, root, other: IommuDomain.root.peek(small.host.kernel, other) };
}

test('a PASID entry that is overwritten while present is seen torn by a unit that fetches in pieces, and whole by one that does not', () => {
  const newPointer = [[16, (small: Attached, other: Attached['domain']) => (IommuDomain.root.peek(small.host.kernel, other) * 4096) | 0]] as const;
  // 128 bits: word 2 is in the second piece. The old domain id tags what the new tables say.
  const in128 = tornRead(128, 'VtdPasidEntry.word2', newPointer);
  expect([in128.reason, in128.root]).toEqual([ScalableReason.FIRST_STAGE_NOT_PRESENT, in128.other]);
  // 64 bits: also word 1, and the reserved bits that somebody put there.
  const in64 = tornRead(64, 'VtdPasidEntry.word1', [[8, () => 0x10005]]);
  expect(in64.reason).toBe(ScalableReason.PASID_RESERVED);
  // As a whole: behind the first fetch nothing of the entry is read any more.
  const whole = tornRead(512, 'VtdFirstStage.level4', newPointer);
  expect([whole.reason, whole.root === whole.other]).toEqual([0, false]);
});

test('the points of a translation are context, PASID cache, directory, the pieces of the PASID entry, IOTLB, tables and fills', () => {
  const inside = (fetchBits: 64 | 128 | 512): string[] => {
    const small = attached({ ...firstStageUnit, fetchBits });
    const interposer = new Interposer(small.host);
    interposer.during(() => void small.engines[0]!.read(0, 0x1000, 4));
    return interposer.points.slice(1, -2).filter((point) => !point.startsWith('VtdFirstStage') && !point.startsWith('Iotlb'));
  };
  const around = (context: string[], pieces: string[]): string[] =>
    ['ContextCache.lookup', ...context.map((word) => `VtdScalableContext.${word}`), 'ContextCache.fill', 'PasidCache.lookup', 'VtdPasidDirectory.entry', ...pieces.map((word) => `VtdPasidEntry.${word}`), 'PasidCache.fill'];
  expect(inside(64)).toEqual(around(['word0', 'word1'], ['word0', 'word1', 'word2']));
  expect(inside(128)).toEqual(around(['word0'], ['word0', 'word2']));
  expect(inside(512)).toEqual(around(['word0'], ['word0']));
});

test('a cached PASID entry spares the unit directory and table, also when they have changed, until it is invalidated', () => {
  const small = attached(scalableUnit);
  const dma = small.engines[0]!;
  expect(dma.read(0, 0x1000, 4)).toBe(0);
  poke(small.host.ram, small.pasidAt, 0);
  expect(dma.read(0, 0x1000, 4)).toBe(0);
  expect(installedRoot(small.host, small.functions[0]!)).toBe(0);
  const without = attached({ ...scalableUnit, caches: 'off' });
  without.engines[0]!.read(0, 0x1000, 4);
  poke(without.host.ram, without.pasidAt, 0);
  expect(without.engines[0]!.read(0, 0x1000, 4)).toBe(ScalableReason.PASID_NOT_PRESENT);
});

test.each([['second', scalableUnit], ['first', firstStageUnit]])('what is installed is told of a scalable unit too, %s stage', (_stage, unit) => {
  const small = attached(unit);
  expect(installedRoot(small.host, small.functions[0]!)).toBe(IommuDomain.root.peek(small.host.kernel, small.domain));
  expect(installedRoot(small.host, small.functions[1]!)).toBe(0);
  small.driver.attach(small.driver.identityDomain, small.functions[1]!);
  expect(installedRoot(small.host, small.functions[1]!)).toBe(passesThrough);
  expect(small.engines[1]!.read(0, 0x1000, 4)).toBe(0);
  expect(small.engines[1]!.read(0x10000, 0, 4)).toBe(ScalableReason.BEYOND_HOST_WIDTH);
});

test('a read of a clean page does not let a cached translation hide the write that follows: D is set', () => {
  const small = attached(firstStageUnit);
  const walk = new WalkResult();
  small.driver.translate(small.domain, 0, 0x1000, walk);
  poke(small.host.ram, walk.entryAt, walk.entryLow & ~0x60);
  const bits = (): number => peek(small.host.ram, walk.entryAt) & 0x60;
  expect([small.engines[0]!.read(0, 0x1000, 4), bits()]).toEqual([0, 0x20]);
  expect([small.engines[0]!.read(0, 0x1000, 4), PciFunction.hits.peek(small.host.kernel, small.functions[0]!)]).toEqual([0, 1]);
  expect([small.engines[0]!.write(0, 0x1000, 4), bits()]).toEqual([0, 0x60]);
});

test('the second stage marks use only where the PASID entry says so', () => {
  const small = attached({ ...scalableUnit, caches: 'off' });
  const walk = new WalkResult();
  const bits = (): number => {
    small.engines[0]!.write(0, 0x1000, 4);
    small.driver.translate(small.domain, 0, 0x1000, walk);
    return walk.entryLow & 0x300;
  };
  expect(bits()).toBe(0);
  changed(small, 'pasidAt', 0, (old) => old | 0x200, () => expect(bits()).toBe(0x300));
});
