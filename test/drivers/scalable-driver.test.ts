import { peek } from '#hostmem/atomics';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { frameOf, type Frame } from '#hostmem/memory';
import { liveObjects } from '#hostmem/object';
import { WalkResult } from '#hostmem/page-walk';
import { IommuDomain } from '#src/drivers/domain';
import { formatId } from '#src/drivers/driver';
import type { Batch } from '#src/drivers/vtd/batch';
import { VtdDriver, type BootOptions } from '#src/drivers/vtd/driver';
import { vtdOperations } from '#src/drivers/vtd/operations';
import type { Vtd, VtdUnit } from '#src/drivers/vtd/vtd';
import { installedRoot } from '#src/hardware/installed-root';
import { FaultReason, ScalableReason } from '#src/hardware/vtd/faults';
import { recordedScalableCapability, VtdRegisters } from '#src/hardware/vtd/registers';
import * as entry from '#src/hardware/vtd/scalable-entry';
import { Errno } from '#src/kernel/errno';
import { expect, test } from 'vitest';
import { firstStageUnit, Interposer, scalableUnit, smallMachine, type SmallMachine } from '../hardware/small-machine.ts';

const stages = [['second', scalableUnit], ['first', firstStageUnit]] as const;
const bridge = [{ rid: 0x0208, sourceId: 0x0200 }, { rid: 0x0210, sourceId: 0x0200 }];

function errnoOf(body: () => void): string {
  try {
    body();
  } catch (thrown) {
    if (thrown instanceof Errno) return thrown.name;
    throw thrown;
  }
  return 'OK';
}

/** What the driver submits: type, domain id, PASID or source, and the third word of each descriptor. */
function recording(small: SmallMachine): { driver: VtdDriver; submitted: number[][] } {
  const submitted: number[][] = [];
  const submit = (vtd: Vtd, unit: VtdUnit, batch: Batch): ReturnType<typeof vtdOperations.submit> => {
    for (let i = 0; i < batch.length; i++) submitted.push([batch.word(i, 0) & 0xff, batch.word(i, 0) >>> 16, batch.word(i, 1), batch.word(i, 2)]);
    return vtdOperations.submit(vtd, unit, batch);
  };
  return { driver: new VtdDriver(small.host, small.machine, { ...vtdOperations, submit }), submitted };
}

test.each(stages)('a probed function is blocked until it is attached, and again after it is, %s stage', (_stage, unit) => {
  const { driver, functions, engines, host } = smallMachine(unit);
  const dma = engines[0]!;
  expect(dma.read(0, 0x1000, 4)).toBe(ScalableReason.DIRECTORY_NOT_PRESENT);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  expect(driver.attach(domain, functions[0]!)).toBe(0);
  expect([dma.read(0, 0x1000, 4), dma.write(0, 0x1000, 4)]).toEqual([0, 0]);
  driver.attach(driver.blockedDomain, functions[0]!);
  expect(dma.read(0, 0x1000, 4)).toBe(ScalableReason.PASID_NOT_PRESENT);
  driver.attach(driver.identityDomain, functions[0]!);
  expect(dma.read(0, 0x1000, 4)).toBe(0);
});

test.each(stages)('a replace is break before make: in between every DMA faults, and nothing of the old domain is left, %s stage', (_stage, unit) => {
  const { driver, functions, engines, host, machine, unit: ref } = smallMachine(unit);
  const domains = [0, 1].map(() => driver.allocPagingDomain(functions[0]!, 0));
  const frames = domains.map(() => host.frames.allocate(16));
  domains.forEach((domain, index) => driver.map(domain, 0, 0x1000, frames[index]!, 3));
  driver.attach(domains[0]!, functions[0]!);
  engines[0]!.read(0, 0x1000, 4);
  const seen: number[] = [];
  const interposer = new Interposer(host);
  interposer.during(() => void driver.attach(domains[1]!, functions[0]!), 'VtdQueue.status', () => {
    machine.unit(ref).queue.help();
    seen.push(engines[0]!.read(0, 0x1000, 4));
  });
  engines[0]!.setBufferWord(0, 77);
  seen.push(engines[0]!.write(0, 0x1000, 4));
  expect(seen).toEqual([ScalableReason.PASID_NOT_PRESENT, 0]);
  expect([peek(host.ram, frames[0]! * 4096), peek(host.ram, frames[1]! * 4096)]).toEqual([0, 77]);
  const words = interposer.points.filter((point) => point.startsWith('VtdPasidEntry')).map((point) => point.slice(-1));
  expect(words).toEqual(unit === firstStageUnit ? ['0', '2', '1', '0'] : ['0', '1', '0']);
});

test('teardown tells the PASID cache, then the IOTLB by PASID for the first stage and by domain for the second (Q3)', () => {
  const sequences = stages.map(([, unit]) => {
    const small = smallMachine(unit);
    const { driver, submitted } = recording(small);
    const domain = driver.allocPagingDomain(small.functions[0]!, 0);
    driver.attach(domain, small.functions[0]!);
    expect(submitted).toEqual([]);
    driver.attach(driver.blockedDomain, small.functions[0]!);
    return submitted;
  });
  expect(sequences).toEqual([
    [[0x17, 2, 0, 0], [0xe2, 2, 0, 0]],
    [[0x17, 2, 0, 0], [0x26, 2, 0, 0]],
  ]);
});

test('a released function has its context entry cleared and flushed before its directory and tables go, which all come back', () => {
  const small = smallMachine(scalableUnit);
  const before = [small.host.frames.inUse, liveObjects(small.host.kernel)];
  const rootTable = frameOf(VtdRegisters.rootTable.peek(small.host.kernel, small.registers));
  const contextAt = entry.contextEntryAt(frameOf(peek(small.host.ram, entry.rootHalfAt(rootTable, 0x0108))), 0x0108);
  expect(peek(small.host.ram, contextAt) & 0xfff).toBe(0x401);
  const { driver, submitted } = recording(small);
  const domain = driver.allocPagingDomain(small.functions[0]!, 0);
  driver.attach(domain, small.functions[0]!);
  submitted.length = 0;
  driver.release(small.functions[0]!);
  expect(submitted.slice(2)).toEqual([[0x31, 0, 0x0108, 0], [0x37, 0, 0, 0], [0xd2, 0, 0, 0]]);
  expect([0, 4, 8, 12].map((word) => peek(small.host.ram, contextAt + word))).toEqual([0, 0, 0, 0]);
  expect(small.engines[0]!.read(0, 0x1000, 4)).toBe(ScalableReason.CONTEXT_NOT_PRESENT);
  driver.freeDomain(domain);
  driver.probe(small.functions[0]!);
  expect([small.host.frames.inUse, liveObjects(small.host.kernel)]).toEqual(before);
});

test('an unmap is flushed by PASID for the first stage, and by page for the second', () => {
  for (const [stage, unit] of stages) {
    const small = smallMachine(unit);
    const { driver, submitted } = recording(small);
    const domain = driver.allocPagingDomain(small.functions[0]!, 0);
    driver.attach(domain, small.functions[0]!);
    driver.sync(domain, 0, 0x5000, 4, true);
    driver.sync(domain, 0, 0, 2 ** 19, false);
    const [some, all] = stage === 'first' ? [[0x36, 2, 0, 0x44], [0x26, 2, 0, 0]] : [[0xf2, 2, 0, 0x44], [0xe2, 2, 0, 0]];
    expect(submitted).toEqual([some, all]);
  }
});

test('domains are of the first stage where the unit has it, of the second otherwise, with the aperture of each', () => {
  const aperture = (unit: object, boot: BootOptions = {}): number[] => {
    const { driver, functions, host } = smallMachine(unit, [{ rid: 0x0108 }], boot);
    const domain = driver.allocPagingDomain(functions[0]!, 8);
    return [IommuDomain.format.peek(host.kernel, domain), IommuDomain.apertureLastHigh.peek(host.kernel, domain), IommuDomain.apertureLastLow.peek(host.kernel, domain)];
  };
  expect(aperture(firstStageUnit)).toEqual([formatId(vtdFirstStage(4)), 0x7fff, -1]);
  expect(aperture(scalableUnit)).toEqual([formatId(vtdSecondStage(4)), 0xffff, -1]);
  expect(aperture(firstStageUnit, { scalable: false })).toEqual([formatId(vtdSecondStage(4)), 0xffff, -1]);
});

test('domain flags are answered as in legacy mode, and hardware information says what the unit has', () => {
  const { driver, functions } = smallMachine({ mode: 'vtd-scalable', capability: recordedScalableCapability });
  expect([0, 1, 2, 8, 16].map((flags) => errnoOf(() => void driver.allocPagingDomain(functions[0]!, flags)))).toEqual(['OK', 'EOPNOTSUPP', 'EOPNOTSUPP', 'OK', 'EOPNOTSUPP']);
  expect(driver.hwInfo(functions[0]!)).toEqual({ type: 1, flags: 1, words: [0xd2008c222f0606n, 0x480080f00f4an], capabilities: 8, maxPasidLog2: 0 });
});

test('a domain that the unit cannot walk is refused, and the device stays blocked as in 7.2', () => {
  const { driver, functions, engines, host } = smallMachine(scalableUnit);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.attach(domain, functions[0]!);
  const other = driver.allocPagingDomain(functions[0]!, 0);
  IommuDomain.format.poke(host.kernel, other, formatId(vtdFirstStage(4)));
  expect(driver.attach(other, functions[0]!)).toBe('EINVAL');
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(ScalableReason.PASID_NOT_PRESENT);
});

test('without a frame for the PASID table an attach is ENODEV, and leaves the device blocked and no tag', () => {
  const { driver, functions, engines, host } = smallMachine(scalableUnit);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const taken: Frame[] = [];
  for (let frame = host.frames.allocate(16); frame !== 0; frame = host.frames.allocate(16)) taken.push(frame);
  expect(driver.attach(domain, functions[0]!)).toBe('ENODEV');
  expect(engines[0]!.read(0, 0x1000, 4)).toBe(ScalableReason.DIRECTORY_NOT_PRESENT);
  expect(IommuDomain.firstTag.peek(host.kernel, domain)).toBe(0);
  for (const frame of taken) host.frames.drop(frame);
  expect(driver.attach(domain, functions[0]!)).toBe(0);
});

test('behind a bridge every attach succeeds and every DMA faults, as in 7.2 (K8)', () => {
  const { driver, functions, engines, faults, host } = smallMachine({ ...scalableUnit, faultReasons: 'recorded' }, bridge);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  expect(functions.map((each) => driver.attach(domain, each))).toEqual([0, 0]);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([FaultReason.CONTEXT_NOT_PRESENT, FaultReason.CONTEXT_NOT_PRESENT]);
  expect(faults().map(({ sourceId }) => sourceId)).toEqual([0x0200, 0x0200]);
  expect(installedRoot(host, functions[0]!)).toBe(0);
});

test('with K8 mended the devices behind a bridge translate through the table of the first, and are blocked with it', () => {
  const { driver, functions, engines, host } = smallMachine(scalableUnit, bridge, { aliasPasidTableSkipped: false });
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), 3);
  for (const each of functions) driver.attach(domain, each);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([0, 0]);
  for (const each of functions) driver.attach(driver.blockedDomain, each);
  expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([ScalableReason.PASID_NOT_PRESENT, ScalableReason.PASID_NOT_PRESENT]);
});

test('each device has a PASID directory of its own', () => {
  const { driver, functions, engines, host } = smallMachine(scalableUnit);
  const domains = functions.map((each) => driver.allocPagingDomain(each, 0));
  const frames = functions.map(() => host.frames.allocate(16));
  domains.forEach((domain, index) => driver.map(domain, 0, 0x1000, frames[index]!, 3));
  domains.forEach((domain, index) => driver.attach(domain, functions[index]!));
  engines.forEach((engine, index) => {
    engine.setBufferWord(0, 10 + index);
    engine.write(0, 0x1000, 4);
  });
  expect(frames.map((frame) => peek(host.ram, frame * 4096))).toEqual([10, 11]);
});

test.each(stages)('a run is mapped in large leaves where it fits, DMA goes through them, and an unmap takes them whole, %s stage', (_stage, unit) => {
  const { driver, functions, engines, host } = smallMachine(unit);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  driver.attach(domain, functions[0]!);
  const walk = new WalkResult();
  // The second 2 MiB of RAM, which nothing else uses here.
  expect(driver.map(domain, 0, 0x3ff000, 511 as Frame, 3, 513)).toBe(0);
  expect([driver.translate(domain, 0, 0x3ff000, walk), walk.level, walk.frame]).toEqual([0, 1, 511]);
  expect([driver.translate(domain, 0, 0x5ff000, walk), walk.level, walk.frame]).toEqual([0, 2, 1023]);
  engines[0]!.setBufferWord(0, 99);
  expect(engines[0]!.write(0, 0x5ff010, 4)).toBe(0);
  expect(peek(host.ram, 1023 * 4096 + 16)).toBe(99);
  expect(driver.unmap(domain, 0, 0x3ff000, 513)).toBe(513);
  driver.sync(domain, 0, 0x3ff000, 513, true);
  expect(engines[0]!.write(0, 0x5ff010, 4)).not.toBe(0);
});

test('a run of large leaves that meets a mapping is undone', () => {
  const { driver, functions } = smallMachine(scalableUnit);
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  const walk = new WalkResult();
  expect(driver.map(domain, 0, 0x600000, 5 as Frame, 3)).toBe(0);
  expect(driver.map(domain, 0, 0x400000, 0x200 as Frame, 3, 1024)).toBe('EADDRINUSE');
  expect(driver.translate(domain, 0, 0x400000, walk)).not.toBe(0);
  expect(driver.unmap(domain, 0, 0, 2048)).toBe(1);
});

test('descriptors are 256 bits wide in scalable mode, and go round their ring', () => {
  const small = smallMachine(scalableUnit);
  const domain = small.driver.allocPagingDomain(small.functions[0]!, 0);
  small.driver.attach(domain, small.functions[0]!);
  for (let round = 1; round <= 200; round++) {
    small.driver.sync(domain, 0, 0x1000, 1, true);
    expect(VtdRegisters.queueHead.peek(small.host.kernel, small.registers)).toBe((round * 64) % 4096);
  }
});
