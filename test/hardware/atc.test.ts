/** ATS: translation requests, the cache of a function, translated requests, invalidation with its completion (SEMANTICS e). */
import { Batch } from '#src/drivers/vtd/batch';
import { Atc, AtcView, orderOfBlock } from '#src/hardware/atc';
import { PciFunction } from '#src/hardware/function';
import { deviceTlbSize } from '#src/hardware/vtd/descriptors';
import { FaultReason, ScalableReason } from '#src/hardware/vtd/faults';
import type { VtdUnitOptions } from '#src/hardware/machine';
import type { Frame } from '#hostmem/memory';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { eightFaultRecords, firstStageUnit, Interposer, scalableUnit, smallMachine } from './small-machine.ts';

const units: [string, VtdUnitOptions][] = [
  ['legacy', { capability: eightFaultRecords }],
  ['scalable, second stage', scalableUnit],
  ['scalable, first stage', firstStageUnit],
];

/** A function with ATS, enabled, on a domain with a page at 0x1000. */
function withAts(unit: VtdUnitOptions, enabled = true) {
  const small = smallMachine({ ...unit, ats: true }, [{ rid: 0x108, ats: true }, { rid: 0x110, ats: true }]);
  const { driver, functions, host } = small;
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  expect(driver.attach(domain, functions[0]!)).toBe(0);
  expect(driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3)).toBe(0);
  if (enabled) driver.enableAts(functions[0]!);
  const hits = (): number => PciFunction.hits.peek(host.kernel, functions[0]!);
  return { ...small, domain, dma: small.engines[0]!, hits };
}

describe.each(units)('%s', (_name, unit) => {
  test('what was translated once comes from the function\'s own cache, until it is unmapped and flushed', () => {
    const { dma, hits, driver, domain } = withAts(unit);
    for (let i = 0; i < 3; i++) expect(dma.read(0, 0x1000, 4)).toBe(0);
    expect(hits()).toBe(2);
    driver.unmap(domain, 0, 0x1000, 1);
    expect(dma.read(0, 0x1000, 4)).toBe(0);
    driver.sync(domain, 0, 0x1000, 1, true);
    expect(dma.read(0, 0x1000, 4)).not.toBe(0);
  });

  test('a translation request that finds nothing is an answer, and no fault is recorded; without ATS the same DMA is one', () => {
    const { dma, faults, driver, functions } = withAts(unit);
    expect(dma.read(0, 0x9000, 4)).not.toBe(0);
    expect(faults()).toEqual([]);
    driver.disableAts(functions[0]!);
    expect(dma.read(0, 0x9000, 4)).not.toBe(0);
    expect(faults().length).toBe(1);
  });

  test('E7: after it was switched off the function holds nothing, also when it is switched on again', () => {
    const { dma, driver, functions, domain, hits } = withAts(unit);
    dma.read(0, 0x1000, 4);
    driver.disableAts(functions[0]!);
    driver.unmap(domain, 0, 0x1000, 1);
    driver.sync(domain, 0, 0x1000, 1, true);
    driver.enableAts(functions[0]!);
    expect([dma.read(0, 0x1000, 4) === 0, hits()]).toEqual([false, 0]);
  });

  test('E6: an answer that an invalidation overtakes is used for its request, which the flush waits for, and is not kept', () => {
    const { dma, host, driver, domain, functions } = withAts(unit);
    const interposer = new Interposer(host);
    // Between the unit's answer and its fill the page goes. The flush would wait for this very transaction: its first half is done by hand.
    const view = new AtcView(host.kernel, PciFunction.atc.peek(host.kernel, functions[0]!));
    interposer.during(() => void dma.read(0, 0x1000, 4), 'Atc.fill', () => {
      driver.unmap(domain, 0, 0x1000, 1);
      view.invalidate(-1, 0, 0x1000, 0);
    });
    expect(view.lookup(-1, 0, 0x1000)).toBe(false);
  });

  test('a function whose entry does not allow ATS is refused, with a fault for it', () => {
    const small = smallMachine({ ...unit, ats: false }, [{ rid: 0x108, ats: true }]);
    const domain = small.driver.allocPagingDomain(small.functions[0]!, 0);
    small.driver.attach(domain, small.functions[0]!);
    small.driver.map(domain, 0, 0x1000, small.host.frames.allocate(16), 3);
    small.driver.enableAts(small.functions[0]!);
    expect(small.engines[0]!.read(0, 0x1000, 4)).toBe(0);
    // Software that forgets whom it talks to writes the device's register all the same.
    Atc.enabled.poke(small.host.kernel, PciFunction.atc.peek(small.host.kernel, small.functions[0]!), 1);
    const reason = unit.mode === undefined && unit.extendedCapability === undefined ? FaultReason.DEVICE_TLB_FORBIDDEN : ScalableReason.DEVICE_TLB_FORBIDDEN;
    expect([small.engines[0]!.read(0, 0x1000, 4), small.faults().map((fault) => fault.reason)]).toEqual([reason, [reason]]);
  });
});

test('the size of a device-TLB invalidation is where the lowest zero of its address is, for every order', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 52 }), fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }), (order, page) => {
      const address = page << 12n;
      const batch = new Batch().deviceTlb(0x108, Number(BigInt.asIntN(32, address >> 32n)), Number(BigInt.asIntN(32, address)), order);
      const [low, high] = [batch.word(0, 2), batch.word(0, 3)];
      expect([low & deviceTlbSize, orderOfBlock(high, low & ~4095)]).toEqual([1, order]);
      const encoded = ((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)) >> 12n;
      expect(encoded >> BigInt(order)).toBe(page >> BigInt(order));
    }),
  );
});

test('an invalidation drops its block of pages and nothing else', () => {
  const { host, functions } = withAts({ capability: eightFaultRecords });
  const view = new AtcView(host.kernel, PciFunction.atc.peek(host.kernel, functions[0]!));
  const iovas = [0x1000, 0x3000, 0x4000, 0x8000];
  const left = (iova: number, order: number): number[] => {
    for (const one of iovas) view.fill(-1, 0, one, 5 as Frame, 3, 9 as Frame, view.epoch());
    view.invalidate(-1, 0, iova, order);
    return iovas.filter((one) => view.lookup(-1, 0, one));
  };
  expect([left(0x3000, 0), left(0x2000, 1), left(0, 2), left(0, 3), left(0, 52)]).toEqual([[0x1000, 0x4000, 0x8000], [0x1000, 0x4000, 0x8000], [0x4000, 0x8000], [0x8000], []]);
});
