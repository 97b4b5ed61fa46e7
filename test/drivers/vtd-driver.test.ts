import { liveObjects } from '#hostmem/object';
import { WalkResult } from '#hostmem/page-walk';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { DomainKind, IommuDomain } from '#src/drivers/domain';
import { formatId } from '#src/drivers/driver';
import { FaultReason } from '#src/hardware/vtd/faults';
import { Errno } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { Interposer, smallMachine } from '../hardware/small-machine.ts';

function errnoOf(body: () => void): string {
  try {
    body();
  } catch (thrown) {
    if (thrown instanceof Errno) return thrown.name;
    throw thrown;
  }
  return 'OK';
}

test('a probed function is blocked until it is attached, and again after it is', () => {
  const { driver, functions, engines, host } = smallMachine();
  const dma = engines[0]!;
  expect(dma.read(0, 0x1000, 4)).toBe(FaultReason.CONTEXT_NOT_PRESENT);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  driver.attach(domain, functions[0]!);
  expect(dma.read(0, 0x1000, 4)).toBe(0);
  driver.attach(driver.blockedDomain, functions[0]!);
  expect(dma.read(0, 0x1000, 4)).toBe(FaultReason.CONTEXT_NOT_PRESENT);
  driver.attach(driver.identityDomain, functions[0]!);
  expect(dma.read(0, 0x1000, 4)).toBe(0);
});

test('a replace leaves nothing of the old domain, cached or not', () => {
  const { driver, functions, engines, host } = smallMachine();
  const dma = engines[0]!;
  const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
  const frames = domains.map(() => host.frames.allocate(16));
  domains.forEach((domain, index) => driver.map(domain, 0, 0x1000, frames[index]!, 3));
  for (let round = 0; round < 10; round++) {
    driver.attach(domains[round % 2]!, functions[0]!);
    dma.setBufferWord(0, round + 1);
    expect([dma.write(0, 0x1000, 4), dma.write(0, 0x1000, 4)]).toEqual([0, 0]);
    expect(host.ram.words[frames[round % 2]! * 1024]).toBe(round + 1);
    expect(host.ram.words[frames[(round + 1) % 2]! * 1024]).toBe(round);
  }
});

test('a replace is break before make: in between every DMA faults', () => {
  const { driver, functions, engines, host, machine, unit } = smallMachine();
  const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
  for (const domain of domains) driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  driver.attach(domains[0]!, functions[0]!);
  const seen: number[] = [];
  const interposer = new Interposer(host);
  interposer.during(() => void driver.attach(domains[1]!, functions[0]!), 'VtdQueue.status', () => {
    seen.push(engines[0]!.read(0, 0x1000, 4));
    machine.unit(unit).queue.help();
  });
  seen.push(engines[0]!.read(0, 0x1000, 4));
  expect(seen).toEqual([FaultReason.CONTEXT_NOT_PRESENT, 0]);
  expect(interposer.points.filter((point) => point.startsWith('VtdContextEntry'))).toEqual([
    'VtdContextEntry.low',
    'VtdContextEntry.high',
    'VtdContextEntry.low',
  ]);
});

test('functions behind a bridge are known by its id and share an entry', () => {
  const { driver, functions, engines, faults, host } = smallMachine({}, [
    { rid: 0x0208, sourceId: 0x0100 },
    { rid: 0x0210, sourceId: 0x0100 },
  ]);
  engines[0]!.read(0, 0x1000, 4);
  expect(faults().map((fault) => fault.sourceId)).toEqual([0x0100]);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  for (const each of functions) driver.attach(domain, each);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([0, 0]);
});

test('a refused attach leaves the device blocked, as in 7.2', () => {
  const { driver, functions, engines, host } = smallMachine();
  const [plain, faulting] = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
  driver.map(plain!, 0, 0x1000, host.frames.allocate(16), 3);
  IommuDomain.pageRequests.poke(host.kernel, faulting!, 1);
  driver.attach(plain!, functions[0]!);
  expect(driver.attach(faulting!, functions[0]!)).toBe('ENODEV');
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(FaultReason.CONTEXT_NOT_PRESENT);
  expect(driver.attach(plain!, functions[0]!)).toBe(0);
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(0);
});

test('domain flags are answered as the recorded kernel did', () => {
  const { driver, functions } = smallMachine();
  const answers = [0, 1, 2, 8, 16].map((flags) => errnoOf(() => void driver.allocPagingDomain(functions[0]!, flags)));
  expect(answers).toEqual(['OK', 'EOPNOTSUPP', 'EOPNOTSUPP', 'OK', 'EOPNOTSUPP']);
});

test('a paging domain says what it is', () => {
  const { driver, functions, host } = smallMachine();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const of = (field: { peek(memory: typeof host.kernel, at: number): number }): number => field.peek(host.kernel, domain);
  expect(of(IommuDomain.kind)).toBe(DomainKind.PAGING);
  expect(of(IommuDomain.format)).toBe(formatId(vtdSecondStage(3)));
  expect([of(IommuDomain.apertureLastHigh), of(IommuDomain.apertureLastLow) >>> 0, of(IommuDomain.smallestPageBits)]).toEqual([0x7f, 0xffffffff, 12]);
});

test('GET_HW_INFO of the recorded unit', () => {
  const { driver, functions } = smallMachine({ capability: 0xd2008c22260206n });
  expect(driver.hwInfo(functions[0]!)).toEqual({ type: 1, flags: 1, words: [0xd2008c22260206n, 0xf00f4an], capabilities: 8, maxPasidLog2: 0 });
});

test('map refuses what it cannot do, and undoes the part that it did', () => {
  const { driver, functions, host } = smallMachine();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const frame = host.frames.allocate(16);
  expect(driver.map(domain, 0, 0x1800, frame, 3)).toBe('EINVAL');
  expect(driver.map(domain, 0, 0x1000, frame, 0)).toBe('EINVAL');
  expect(driver.map(driver.blockedDomain, 0, 0x1000, frame, 3)).toBe('EINVAL');
  expect(driver.map(domain, 0x80, 0, frame, 3)).toBe('ERANGE');
  expect(driver.map(domain, 0, 0x4000, frame, 3)).toBe(0);
  expect(driver.map(domain, 0, 0x1000, frame, 3, 4)).toBe('EADDRINUSE');
  const walk = new WalkResult();
  expect([0x1000, 0x2000, 0x3000, 0x4000].map((iova) => driver.translate(domain, 0, iova, walk) === 0)).toEqual([false, false, false, true]);
  expect(driver.unmap(domain, 0, 0, 16)).toBe(1);
});

test('a run of pages is mapped to consecutive frames', () => {
  const { driver, functions, host } = smallMachine();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const frame = host.frames.allocate(16);
  expect(driver.map(domain, 0, 0xffffe000 | 0, frame, 3, 4)).toBe(0);
  const walk = new WalkResult();
  driver.translate(domain, 1, 0x1000, walk);
  expect(walk.frame).toBe(frame + 3);
});

test('a domain that is freed leaves no frame and no object behind', () => {
  const { driver, functions, host } = smallMachine();
  const before = [host.frames.inUse, liveObjects(host.kernel)];
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const frame = host.frames.allocate(16);
  driver.map(domain, 0, 0x1000, frame, 3);
  driver.map(domain, 0x40, 0x1000, frame, 3);
  driver.attach(domain, functions[0]!);
  driver.attach(driver.blockedDomain, functions[0]!);
  driver.freeDomain(domain);
  host.frames.drop(frame);
  expect([host.frames.inUse, liveObjects(host.kernel)]).toEqual(before);
});

test('a domain with an attached device cannot be freed', () => {
  const { driver, functions } = smallMachine();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.attach(domain, functions[0]!);
  expect(() => driver.freeDomain(domain)).toThrow(/a domain is freed while a device is attached/);
});

test('a released function is blocked', () => {
  const { driver, functions, engines, host } = smallMachine();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  driver.attach(domain, functions[0]!);
  driver.release(functions[0]!);
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(FaultReason.CONTEXT_NOT_PRESENT);
});
