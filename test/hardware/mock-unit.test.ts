/** The mock IOMMU as hardware: tables of 2 KiB pages, a register for each function, no cache, and a fence. */
import { peek, poke } from '#hostmem/atomics';
import { Owner } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import { hpaOf, type Memory } from '#hostmem/memory';
import { MockDriver } from '#src/drivers/mock/driver';
import { InFlight, PciFunction } from '#src/hardware/function';
import { installedRoot } from '#src/hardware/installed-root';
import { Machine } from '#src/hardware/machine';
import { MockFault } from '#src/hardware/mock/unit';
import { expect, test } from 'vitest';
import { Recorder } from '../hostmem/recorder.ts';

const iova = 0x1000000;
const [READ, WRITE] = [1, 2];

function setUp() {
  const host = Host.create(4 << 20, 4 << 20);
  Machine.create(host);
  const unit = Machine.addMockUnit(host);
  MockDriver.boot(host, unit);
  const [pciFunction, other] = [Machine.addFunction(host, unit, { rid: 8 }), Machine.addFunction(host, unit, { rid: 16 })];
  const driver = new MockDriver(host);
  for (const added of [pciFunction, other]) driver.probe(added);
  const domain = driver.allocPagingDomain(pciFunction, 0);
  const frame = host.frames.allocate(Owner.firstProcess);
  poke(host.ram, hpaOf(frame), 0x1234);
  const dma = new Machine(host).dma(pciFunction);
  return { host, driver, pciFunction, other, domain, frame, dma };
}

test('a function is blocked until it is attached, reaches what is mapped, and is blocked again', () => {
  const { host, driver, pciFunction, domain, frame, dma } = setUp();
  driver.map(domain, 0, iova, frame, READ);
  expect(dma.read(0, iova, 4)).toBe(MockFault.BLOCKED);
  driver.attach(domain, pciFunction);
  expect([dma.read(0, iova, 4), dma.bufferWord(0), dma.write(0, iova, 4), dma.read(0, iova + 4096, 4)]).toEqual([0, 0x1234, MockFault.DENIED, MockFault.NOT_MAPPED]);
  expect(installedRoot(host, pciFunction)).toBeGreaterThan(0);
  expect([dma.read(1 << 24, iova, 4), dma.read(1 << 23, iova, 4)]).toEqual([MockFault.NOT_MAPPED, MockFault.NOT_MAPPED]);
  driver.unmap(domain, 0, iova, 1);
  expect(dma.read(0, iova, 4)).toBe(MockFault.NOT_MAPPED);
  driver.attach(driver.blockedDomain, pciFunction);
  expect([dma.read(0, iova, 4), installedRoot(host, pciFunction)]).toEqual([MockFault.BLOCKED, 0]);
});

test('a page whose halves are not those of one frame is not reached', () => {
  const { driver, pciFunction, domain, frame, dma } = setUp();
  driver.attach(domain, pciFunction);
  driver.mapBytes(domain, BigInt(iova), hpaOf(frame), 2048, READ | WRITE);
  expect(dma.read(0, iova, 4)).toBe(MockFault.NOT_MAPPED);
  driver.mapBytes(domain, BigInt(iova + 2048), hpaOf(frame), 2048, READ | WRITE);
  expect(dma.read(0, iova, 4)).toBe(MockFault.SPLIT_PAGE);
  driver.unmapBytes(domain, BigInt(iova + 2048), 2048n);
  driver.mapBytes(domain, BigInt(iova + 2048), hpaOf(frame) + 2048, 2048, READ | WRITE);
  expect(dma.read(0, iova, 4)).toBe(0);
});

/** Ends what is waited for. */
class Ender extends Recorder {
  readonly ended: number[] = [];
  override pointWhen(op: number, memory: Memory, at: number, label: number): void {
    super.pointWhen(op, memory, at, label);
    this.ended.push(at);
    poke(memory, at, peek(memory, at) & ~InFlight.BUSY);
  }
}

test('an unmap is over when every transaction that was in flight has ended, an attach when the function\'s own has', () => {
  const { host, driver, pciFunction, other, domain } = setUp();
  const slots = [pciFunction, other].map((one) => PciFunction.inFlight.address(host.kernel, one));
  const waitedFor = (call: () => void): number[] => {
    for (const at of slots) poke(host.kernel, at, InFlight.BUSY + InFlight.countUnit);
    const ender = new Ender();
    host.kernel.control = ender;
    call();
    host.kernel.control = null;
    return ender.ended.toSorted((a, b) => a - b);
  };
  expect(waitedFor(() => driver.sync())).toEqual(slots);
  expect(waitedFor(() => driver.unmapBytes(domain, BigInt(iova), 2048n))).toEqual(slots);
  expect(waitedFor(() => driver.attach(domain, pciFunction))).toEqual([slots[0]]);
});

test('devices of the selftest have no unit, and nothing waits for them', () => {
  const host = Host.create(1 << 20, 1 << 20);
  MockDriver.boot(host);
  expect(() => new MockDriver(host).sync()).not.toThrow();
});
