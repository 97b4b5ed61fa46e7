import { poke } from '#hostmem/atomics';
import { frameOf, type Frame } from '#hostmem/memory';
import { WalkResult } from '#hostmem/page-walk';
import { PciFunction } from '#src/hardware/function';
import { rootEntryAt } from '#src/hardware/vtd/context-entry';
import { FaultReason } from '#src/hardware/vtd/faults';
import { VtdRegisters } from '#src/hardware/vtd/registers';
import { contextAddress } from '#src/hardware/vtd/requester';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Interposer, smallMachine, type SmallMachine } from './small-machine.ts';

/** A machine whose first function is attached to a domain with one page at 0x1000. */
function attached(options: Parameters<typeof smallMachine>[0] = {}): SmallMachine & { domain: ReturnType<SmallMachine['driver']['allocPagingDomain']>; frame: Frame; contextAt: number } {
  const small = smallMachine(options);
  const domain = small.driver.allocPagingDomain(small.functions[0]!, 0);
  expect(small.driver.attach(domain, small.functions[0]!)).toBe(0);
  const frame = small.host.frames.allocate(16);
  expect(small.driver.map(domain, 0, 0x1000, frame, 3)).toBe(0);
  return { ...small, domain, frame, contextAt: contextAddress(small.host.ram, rootTable(small), 0x0108) };
}

const rootTable = (small: SmallMachine): Frame => frameOf(VtdRegisters.rootTable.peek(small.host.kernel, small.registers));

test('each reason of legacy mode is given for its cause, and recorded with who, where and what', () => {
  const small = attached({ caches: 'off' });
  const { host, engines, faults } = small;
  const dma = engines[0]!;
  const { ram } = host;
  const rootAt = rootEntryAt(rootTable(small), 0x0108);
  const expectFault = (reason: number, write: boolean, iovaHigh: number, iovaLow: number): void => {
    expect(write ? dma.write(iovaHigh, iovaLow, 4) : dma.read(iovaHigh, iovaLow, 4)).toBe(reason);
    expect(faults()).toEqual([{ iovaHigh, iovaLow: iovaLow & ~4095, sourceId: 0x0108, reason, write }]);
  };
  const with32 = (at: number, change: (old: number) => number, body: () => void): void => {
    const old = ram.words[at >>> 2]!;
    poke(ram, at, change(old));
    body();
    poke(ram, at, old);
  };
  with32(rootAt, (old) => old & ~1, () => expectFault(FaultReason.ROOT_NOT_PRESENT, false, 0, 0x1004));
  with32(rootAt, (old) => old | 0x10, () => expectFault(FaultReason.ROOT_RESERVED, false, 0, 0x1004));
  with32(rootAt, () => 0xfffff001 | 0, () => expectFault(FaultReason.CONTEXT_ACCESS, false, 0, 0x1000));
  with32(small.contextAt, (old) => old & ~1, () => expectFault(FaultReason.CONTEXT_NOT_PRESENT, true, 0, 0x1000));
  with32(small.contextAt, (old) => old | 0xc, () => expectFault(FaultReason.CONTEXT_INVALID, true, 0, 0x1000));
  with32(small.contextAt + 8, (old) => old + 1, () => expectFault(FaultReason.CONTEXT_INVALID, false, 0, 0x1000));
  with32(small.contextAt, (old) => old | 0x20, () => expectFault(FaultReason.CONTEXT_RESERVED, true, 0, 0x1000));
  with32(small.contextAt, () => 0xfffff001 | 0, () => expectFault(FaultReason.TABLE_ACCESS, true, 0, 0x7000));
  expectFault(FaultReason.BEYOND_WIDTH, false, 0x80, 0x1000);
  expectFault(FaultReason.WRITE_DENIED, true, 0, 0x2000);
  expectFault(FaultReason.READ_DENIED, false, 0x7f, 0x2000);
  expect(dma.read(0, 0x1000, 4)).toBe(0);
  expect(faults()).toEqual([]);
});

test('a page without a permission refuses that access and gives the other, also when it is cached', () => {
  const { driver, domain, engines, frame, faults } = attached();
  expect(driver.map(domain, 0, 0x10000, frame, 1)).toBe(0);
  expect(driver.map(domain, 0, 0x11000, frame, 2)).toBe(0);
  for (const warm of [false, true]) {
    expect([warm, engines[0]!.read(0, 0x10000, 4), engines[0]!.write(0, 0x11000, 4)]).toEqual([warm, 0, 0]);
    expect([warm, engines[0]!.write(0, 0x10000, 4), engines[0]!.read(0, 0x11000, 4)]).toEqual([warm, FaultReason.WRITE_DENIED, FaultReason.READ_DENIED]);
  }
  expect(faults().length).toBe(4);
});

test('an entry with fault recording disabled faults in silence', () => {
  const { host, engines, contextAt, faults } = attached();
  poke(host.ram, contextAt, (host.ram.words[contextAt >>> 2]! & ~1) | 2);
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(FaultReason.CONTEXT_NOT_PRESENT);
  expect(faults()).toEqual([]);
});

test('a full fault log overflows, and records again once software has emptied it', () => {
  const { engines, faults, host, registers } = attached();
  for (let page = 0; page < 9; page++) engines[0]!.read(0, 0x100000 + page * 4096, 4);
  expect(VtdRegisters.faultStatus.peek(host.kernel, registers)).toBe(3);
  expect(faults().map((fault) => fault.iovaLow)).toEqual([0, 1, 2, 3, 4, 5, 6, 7].map((page) => 0x100000 + page * 4096));
  expect(VtdRegisters.faultStatus.peek(host.kernel, registers)).toBe(0);
  engines[0]!.write(0, 0x200000, 4);
  expect(faults()).toEqual([{ iovaHigh: 0, iovaLow: 0x200000, sourceId: 0x0108, reason: FaultReason.WRITE_DENIED, write: true }]);
});

test('functions of one domain share its entries in the IOTLB', () => {
  const { driver, domain, functions, engines, host } = attached();
  expect(driver.attach(domain, functions[1]!)).toBe(0);
  const hits = (): number => PciFunction.hits.peek(host.kernel, functions[1]!);
  engines[0]!.read(0, 0x1000, 4);
  engines[1]!.read(0, 0x1000, 4);
  expect(hits()).toBe(1);
});

test('functions of two domains do not see each other through the IOTLB', () => {
  const { driver, functions, engines, host } = attached();
  const other = driver.allocPagingDomain(functions[1]!, 0);
  driver.attach(other, functions[1]!);
  const otherFrame = host.frames.allocate(17);
  driver.map(other, 0, 0x1000, otherFrame, 3);
  for (let round = 0; round < 2; round++) {
    for (const [index, engine] of engines.entries()) {
      engine.setBufferWord(0, 100 + index);
      expect(engine.write(0, 0x1000, 4)).toBe(0);
    }
  }
  expect(host.ram.words[otherFrame * 1024]).toBe(101);
});

test('a fill is discarded when an invalidation began after its transaction did', () => {
  const { host, machine, driver, domain, engines, functions, frame, unit } = attached();
  const interposer = new Interposer(host);
  interposer.during(() => void engines[0]!.read(0, 0x1000, 4), 'Iotlb.fill', () => {
    driver.unmap(domain, 0, 0x1000, 1);
    machine.unit(unit).translation.iotlb.invalidateAll();
  });
  expect(interposer.points).toContain('Iotlb.fill');
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(FaultReason.READ_DENIED);
  driver.map(domain, 0, 0x1000, frame, 3);
  engines[0]!.read(0, 0x1000, 4);
  engines[0]!.read(0, 0x1000, 4);
  expect(PciFunction.hits.peek(host.kernel, functions[0]!)).toBe(1);
});

test('a unit that fetches halves can see a context entry torn, one that fetches 128 bits cannot', () => {
  const outcome = [64, 128].map((fetchBits) => {
    const small = attached({ fetchBits: fetchBits as 64 | 128 });
    const interposer = new Interposer(small.host);
    let reason = -1;
    // A careless writer overwrites both halves of a live entry while the unit is between its fetches.
    const overwrite = (): void => poke(small.host.ram, small.contextAt + 8, 0x0307);
    interposer.during(() => (reason = small.engines[0]!.read(0, 0x1000, 4)), fetchBits === 64 ? 'VtdContextEntry.high' : 'Iotlb.lookup', overwrite);
    return reason;
  });
  expect(outcome).toEqual([FaultReason.CONTEXT_INVALID, 0]);
});

test('the points of a translation are the context cache, the entry, the IOTLB, each table entry and the fill', () => {
  const { host, engines } = attached();
  const interposer = new Interposer(host);
  interposer.during(() => {
    engines[0]!.read(0, 0x1000, 4);
    engines[0]!.write(0, 0x1000, 4);
  });
  const around = (entry: string[], inside: string[]): string[] => ['PciFunction.inFlight', 'ContextCache.lookup', ...entry, 'Iotlb.lookup', ...inside, 'ram.data', 'PciFunction.inFlight'];
  const walk = [3, 2, 1].map((level) => `VtdSecondStage.level${level}`);
  expect(interposer.points).toEqual([...around(['VtdContextEntry.low', 'ContextCache.fill'], [...walk, 'Iotlb.fill']), ...around([], [])]);
});

/** One step of a random program over 4 domains' worth of pages. */
const step = fc.oneof(
  fc.record({ kind: fc.constant('map' as const), page: fc.nat(300), permissions: fc.integer({ min: 1, max: 3 }) }),
  fc.record({ kind: fc.constant('unmap' as const), page: fc.nat(300), pages: fc.integer({ min: 1, max: 70 }) }),
  fc.record({ kind: fc.constant('dma' as const), page: fc.nat(300), write: fc.boolean(), device: fc.nat(1) }),
  fc.record({ kind: fc.constant('attach' as const), device: fc.nat(1), domain: fc.nat(2) }),
);

test('outside open windows the IOTLB answers as the tables do', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 150 }), (program) => {
      const small = smallMachine();
      const { driver, host, functions, engines } = small;
      const domains = [driver.allocPagingDomain(functions[0]!, 0), driver.allocPagingDomain(functions[1]!, 8)];
      const current = [-1, -1];
      const frames = Array.from({ length: 8 }, () => host.frames.allocate(16));
      const walk = new WalkResult();
      const iova = (page: number): number => (0x40000000 + page * 4096) | 0;
      for (const [index, op] of program.entries()) {
        const domain = domains[index % 2]!;
        if (op.kind === 'map') driver.map(domain, 0, iova(op.page), frames[index % 8]!, op.permissions);
        else if (op.kind === 'unmap') {
          driver.unmap(domain, 0, iova(op.page), op.pages);
          driver.sync(domain, 0, iova(op.page), op.pages, true);
        } else if (op.kind === 'attach') {
          current[op.device] = op.domain - 1;
          driver.attach(op.domain === 0 ? driver.blockedDomain : domains[op.domain - 1]!, functions[op.device]!);
        } else {
          const reason = op.write ? engines[op.device]!.write(0, iova(op.page), 4) : engines[op.device]!.read(0, iova(op.page), 4);
          const through = current[op.device]!;
          if (through < 0) expect(reason).toBe(FaultReason.CONTEXT_NOT_PRESENT);
          else {
            const allowed = driver.translate(domains[through]!, 0, iova(op.page), walk) === 0 && (walk.permissions & (op.write ? 2 : 1)) !== 0;
            expect(reason).toBe(allowed ? 0 : op.write ? FaultReason.WRITE_DENIED : FaultReason.READ_DENIED);
            if (allowed) expect(small.machine.units[0]!.translation.frame).toBe(walk.frame);
          }
        }
      }
    }),
    { numRuns: 150, seed: 7 },
  );
});
