/** ATS on RISC-V: translation requests and what answers them, the order in which the driver invalidates, and devices that do not answer (SEMANTICS d.4, e). */
import { peek, poke } from '#hostmem/atomics';
import { Cursor, History, historyBytes } from '#hostmem/history';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { liveObjects, NULL, type Ref } from '#hostmem/object';
import { CacheTag, IommuDomain } from '#src/drivers/domain';
import { InvalidationQueued } from '#src/drivers/events';
import { flushDeviceTlb } from '#src/drivers/riscv/bonds';
import { RiscvDriver } from '#src/drivers/riscv/driver';
import { riscvOperations, type RiscvOperations } from '#src/drivers/riscv/operations';
import { Riscv } from '#src/drivers/riscv/riscv';
import { AfterTimeOut } from '#src/drivers/time-out';
import { Atc, AtcInvalidation, AtcView } from '#src/hardware/atc';
import { PciFunction } from '#src/hardware/function';
import { Machine } from '#src/hardware/machine';
import { askForPage } from '#src/hardware/page-requests';
import { Cause } from '#src/hardware/riscv/cause';
import * as commands from '#src/hardware/riscv/commands';
import * as context from '#src/hardware/riscv/device-context';
import { Tc } from '#src/hardware/riscv/device-context';
import { QueueStatus, ringAt, RiscvRegisters, type RiscvUnitOptions } from '#src/hardware/riscv/registers';
import type { WorldOptions } from '#src/world';
import { describe, expect, test } from 'vitest';
import { Driven } from '../check/driven.ts';
import { Interposer } from '../hardware/small-machine.ts';
import { smallRiscv } from './small-vendor.ts';

const READ_WRITE = 3;
const ttypOfRequest = 8;

/** A function with ATS on a domain with a page at 0x1000, and one at 0x2000 that may be read. */
function withAts(options: RiscvUnitOptions = {}) {
  const small = smallRiscv([{ rid: 0x108, ats: true }, { rid: 0x110, ats: true }], { ats: true, ...options });
  const { driver, functions, host } = small;
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  expect(driver.attach(domain, functions[0]!)).toBe(0);
  const frame = host.frames.allocate(16);
  expect([driver.map(domain, 0, 0x1000, frame, READ_WRITE), driver.map(domain, 0, 0x2000, host.frames.allocate(16), 1)]).toEqual([0, 0]);
  driver.enableAts(functions[0]!);
  const atc = PciFunction.atc.peek(host.kernel, functions[0]!);
  const hits = (): number => PciFunction.hits.peek(host.kernel, functions[0]!);
  return { ...small, domain, frame, atc, hits, dma: small.engines[0]!, view: new AtcView(host.kernel, atc) };
}

/** A unit that reads every context anew. */
const uncached = { caches: 'off' } as const;

/** Byte address of the first function's device context. */
function contextAt({ host, registers }: Pick<ReturnType<typeof withAts>, 'host' | 'registers'>): number {
  const root = RiscvRegisters.ddtp.peek(host.kernel, registers) >>> 10;
  const page = host.ram.words[(hpaOf(root as Frame) + (0x108 >>> 7) * 8) >>> 2]! >>> 10;
  return hpaOf(page as Frame) + (0x108 & 127) * context.contextBytes(false);
}

test('what was translated once comes from the function\'s own cache, until it is unmapped and flushed', () => {
  const { dma, hits, driver, domain } = withAts();
  for (let i = 0; i < 3; i++) expect(dma.read(0, 0x1000, 4)).toBe(0);
  expect(hits()).toBe(2);
  driver.unmap(domain, 0, 0x1000, 1);
  expect(dma.read(0, 0x1000, 4)).toBe(0);
  driver.sync(domain, 0, 0x1000, 1);
  expect(dma.read(0, 0x1000, 4)).not.toBe(0);
});

test('a request that finds nothing, or not the permission, is answered without access and recorded nowhere; without ATS the same DMA is a fault', () => {
  const { dma, faults, driver, functions } = withAts();
  expect([dma.read(0, 0x9000, 4), dma.write(0, 0x2000, 4), dma.read(0, 0x2000, 4), dma.write(0, 0x2000, 4)]).toEqual([13, 15, 0, 15]);
  expect(faults()).toEqual([]);
  driver.disableAts(functions[0]!);
  expect([dma.read(0, 0x9000, 4), dma.write(0, 0x2000, 4)]).toEqual([13, 15]);
  expect(faults().map(({ cause, type }) => [cause, type])).toEqual([[13, 2], [15, 3]]);
});

describe('a context that does not allow ATS', () => {
  test('refuses a translation request, with a fault of type 8', () => {
    const small = withAts(uncached);
    poke(small.host.ram, contextAt(small), Tc.VALID);
    expect(small.dma.read(0, 0x1000, 4)).toBe(Cause.TYPE_DISALLOWED);
    expect(small.faults()).toMatchObject([{ cause: Cause.TYPE_DISALLOWED, type: ttypOfRequest, deviceId: 0x108, iovaLow: 0x1000 }]);
  });

  test('refuses a request with an address that was given before, which is recorded with that address', () => {
    const small = withAts(uncached);
    expect(small.dma.read(0, 0x1000, 4)).toBe(0);
    poke(small.host.ram, contextAt(small), Tc.VALID);
    expect([small.dma.read(0, 0x1000, 4), small.dma.write(0, 0x1000, 4)]).toEqual([Cause.TYPE_DISALLOWED, Cause.TYPE_DISALLOWED]);
    expect(small.faults().map(({ type, iovaLow }) => [type, iovaLow])).toEqual([[6, hpaOf(small.frame)], [7, hpaOf(small.frame)]]);
  });

  test('and with DTF tells nobody', () => {
    const small = withAts(uncached);
    poke(small.host.ram, contextAt(small), Tc.VALID | Tc.DTF);
    expect([small.dma.read(0, 0x1000, 4), small.faults()]).toEqual([Cause.TYPE_DISALLOWED, []]);
  });

  test('requests without ATS pass it all the same', () => {
    const small = withAts(uncached);
    poke(small.host.ram, contextAt(small), Tc.VALID);
    Atc.enabled.poke(small.host.kernel, small.atc, 0);
    expect(small.dma.read(0, 0x1000, 4)).toBe(0);
  });
});

test('a context that allows ATS is misconfigured for a unit that has none, and one with T2GPA for every unit here', () => {
  const small = withAts(uncached);
  poke(small.host.ram, contextAt(small), Tc.VALID | Tc.EN_ATS | Tc.T2GPA);
  expect(small.dma.read(0, 0x1000, 4)).toBe(Cause.DDT_MISCONFIGURED);
  const plain = withAts({ ...uncached, ats: false });
  // The driver has not enabled what the unit does not serve.
  expect([plain.dma.read(0, 0x1000, 4), plain.dma.read(0, 0x1000, 4), plain.hits()]).toEqual([0, 0, 0]);
  poke(plain.host.ram, contextAt(plain), Tc.VALID | Tc.EN_ATS);
  expect(plain.dma.read(0, 0x1000, 4)).toBe(Cause.DDT_MISCONFIGURED);
});

test('E6: an answer that an invalidation overtakes is used for its request, which the fence waits for, and is not kept', () => {
  const { dma, host, driver, domain, queue, view, functions, registers } = withAts();
  const { kernel, ram } = host;
  const seen: boolean[] = [];
  // Between the unit's answer and the device's fill the page goes. The driver would wait for this very transaction: what it does is done by hand.
  new Interposer(host).during(() => void seen.push(dma.read(0, 0x1000, 4) === 0), 'Atc.fill', () => {
    driver.unmap(domain, 0, 0x1000, 1);
    const tail = RiscvRegisters.commandTail.peek(kernel, registers);
    const at = ringAt(RiscvRegisters.commandQueue.peek(kernel, registers)) + tail * commands.commandBytes;
    const words = [commands.invalidateVma, 0, 0, 0, commands.atsInvalidation(null), commands.toRequester(0x108, null), 0x1000, 0, commands.fence, 0, 0, 0];
    words.forEach((word, index) => poke(ram, at + index * 4, word));
    RiscvRegisters.commandTail.poke(kernel, registers, tail + 3);
    for (let steps = 0; steps < 2; steps++) queue.step();
    new AtcInvalidation(host, functions[0]!).step();
    seen.push(queue.ready());
  });
  expect([seen, queue.ready(), view.lookup(-1, 0, 0x1000)]).toEqual([[false, true], true, false]);
  queue.step();
  expect(dma.read(0, 0x1000, 4)).toBe(13);
});

test('E7: after it was switched off the function holds nothing, also when it is switched on again', () => {
  const { dma, driver, functions, domain, hits, view } = withAts();
  expect([dma.read(0, 0x1000, 4), view.lookup(-1, 0, 0x1000)]).toEqual([0, true]);
  driver.disableAts(functions[0]!);
  expect(view.lookup(-1, 0, 0x1000)).toBe(false);
  driver.unmap(domain, 0, 0x1000, 1);
  driver.sync(domain, 0, 0x1000, 1);
  driver.enableAts(functions[0]!);
  expect([dma.read(0, 0x1000, 4) === 0, hits()]).toEqual([false, 0]);
});

test('the context allows ATS from the attach on, also where requests pass, and before the device begins', () => {
  const small = withAts();
  const { driver, functions, host, frame, dma } = small;
  const control = (): number => peek(host.ram, contextAt(small));
  expect(control()).toBe(Tc.VALID | Tc.EN_ATS);
  driver.attach(driver.identityDomain, functions[0]!);
  expect([control(), dma.read(0, hpaOf(frame), 4), dma.read(0, hpaOf(frame), 4)]).toEqual([Tc.VALID | Tc.EN_ATS, 0, 0]);
  driver.attach(driver.blockedDomain, functions[0]!);
  expect([control(), dma.read(0, hpaOf(frame), 4)]).toEqual([0, Cause.DDT_NOT_VALID]);
});

test('what a device keeps goes with its domain: nothing of it is left behind a replace, a detach, or where requests passed', () => {
  const { driver, functions, host, dma, domain, frame } = withAts();
  const second = driver.allocPagingDomain(functions[0]!, 0);
  const other = host.frames.allocate(16);
  driver.map(second, 0, 0x1000, other, READ_WRITE);
  const writes = (iova: number, value: number): number => {
    dma.setBufferWord(0, value);
    return dma.write(0, iova, 4);
  };
  expect(writes(0x1000, 1)).toBe(0);
  driver.attach(second, functions[0]!);
  expect([writes(0x1000, 2), peek(host.ram, hpaOf(frame)), peek(host.ram, hpaOf(other))]).toEqual([0, 1, 2]);
  driver.attach(driver.identityDomain, functions[0]!);
  expect([writes(hpaOf(frame), 3), peek(host.ram, hpaOf(frame))]).toEqual([0, 3]);
  driver.attach(domain, functions[0]!);
  expect(writes(hpaOf(frame), 4)).not.toBe(0);
  driver.attach(driver.blockedDomain, functions[0]!);
  expect([writes(0x1000, 5), peek(host.ram, hpaOf(frame))]).toEqual([Cause.DDT_NOT_VALID, 3]);
});

test('lists hold a device while it keeps anything, behind its unit, and what was taken is given back', () => {
  const { driver, functions, host, domain } = withAts();
  const { kernel } = host;
  const listed = (of: Ref<'IommuDomain'>): number[] => {
    const found: number[] = [];
    for (let tag = IommuDomain.firstTag.peek(kernel, of); tag !== NULL; tag = CacheTag.next.peek(kernel, tag)) {
      const one = CacheTag.function.peek(kernel, tag);
      found.push(one === NULL ? 0 : PciFunction.rid.peek(kernel, one));
    }
    return found;
  };
  const second = driver.allocPagingDomain(functions[0]!, 0);
  driver.enableAts(functions[1]!);
  const before = liveObjects(kernel);
  const seen = [listed(domain)];
  driver.attach(domain, functions[1]!);
  seen.push(listed(domain));
  driver.attach(second, functions[0]!);
  seen.push(listed(domain), listed(second));
  driver.disableAts(functions[1]!);
  seen.push(listed(domain));
  driver.attach(driver.blockedDomain, functions[1]!);
  seen.push(listed(domain));
  expect(seen).toEqual([[0, 0x108], [0, 0x110, 0x108], [0, 0x110], [0, 0x108], [0], []]);
  driver.attach(domain, functions[0]!);
  expect(liveObjects(kernel)).toBe(before);
});

test('page requests: the context allows them, a domain of theirs is for devices that can make them alone, and a drain brings in what was asked for', () => {
  const make = (options: RiscvUnitOptions, pageRequests: boolean) => {
    const small = smallRiscv([{ rid: 0x108, ats: true, pageRequests }], { ats: true, ...options });
    const domain = small.driver.allocPagingDomain(small.functions[0]!, 0);
    IommuDomain.pageRequests.poke(small.host.kernel, domain, 1);
    return { ...small, attached: small.driver.attach(domain, small.functions[0]!) };
  };
  expect([make({ pageRequests: true }, false).attached, make({ pageRequests: false }, true).attached, make({ ats: false, pageRequests: true }, true).attached]).toEqual(['ENODEV', 'ENODEV', 'ENODEV']);
  const small = make({ pageRequests: true }, true);
  const { driver, functions, host } = small;
  const [nic] = functions as [Ref<'PciFunction'>];
  expect([small.attached, peek(host.ram, contextAt(small))]).toEqual([0, Tc.VALID | Tc.EN_ATS | Tc.EN_PRI]);
  driver.enableAts(nic);
  const group = askForPage(host.kernel, nic, null, 5, 1);
  expect([driver.takesPageRequests(nic), driver.drainPageRequests(nic), driver.pageRequestsSoFar(nic)]).toEqual([true, true, 1]);
  expect([driver.takePageRequest(nic, 1), driver.takePageRequest(nic, 1)]).toEqual([{ rid: 0x108, pasid: null, group, page: 5, access: 1 }, null]);
  expect(PciFunction.groupsOut.peek(host.kernel, nic)).toBe(1);
  driver.answerPage(nic, group, 0, null);
  expect(PciFunction.groupsOut.peek(host.kernel, nic)).toBe(0);
});

describe('a device that is gone', () => {
  test('is asked once more by nobody: the unmap ends, and the unit serves the others', () => {
    const { engines, driver, domain, functions, registers, host } = withAts();
    driver.attach(domain, functions[1]!);
    driver.enableAts(functions[1]!);
    expect(engines.map((engine) => engine.read(0, 0x1000, 4))).toEqual([0, 0]);
    engines[0]!.leave();
    driver.unmap(domain, 0, 0x1000, 1);
    driver.sync(domain, 0, 0x1000, 1);
    expect(engines[1]!.read(0, 0x1000, 4)).toBe(13);
    expect(RiscvRegisters.commandStatus.peek(host.kernel, registers)).toBe(QueueStatus.ENABLED | QueueStatus.ON);
    driver.disableAts(functions[0]!);
    engines[0]!.comeBack();
    expect(engines[0]!.read(0, 0x1000, 4)).toBe(13);
  });

  test('and is there again is asked again', () => {
    const { host, machine, engines } = withAts();
    const seen: number[] = [];
    const afterTimeOut: RiscvOperations['afterTimeOut'] = (riscv, unit, rid) => {
      seen.push(rid);
      if (seen.length === 3) engines[0]!.comeBack();
      return seen.length === 3 ? riscvOperations.afterTimeOut(riscv, unit, rid) : AfterTimeOut.AGAIN;
    };
    const riscv = new Riscv(host, machine, { ...riscvOperations, afterTimeOut });
    engines[0]!.leave();
    riscv.units[0]!.submitter.invalidateDeviceTlb(0x108, 0, 0x1000, 0).submit();
    expect(seen).toEqual([0x108, 0x108, 0x108]);
  });
});

const all = ['C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'D1', 'D4', 'D7'];

async function verdictOf(mistake: Partial<RiscvOperations>, options: Partial<WorldOptions> = {}): Promise<string | undefined> {
  const driven = await Driven.onRiscv({ ats: true, ...options }, mistake, all);
  driven.live();
  return driven.verdict?.invariant;
}

describe('sequences: a step left out or swapped is seen', () => {
  test('the driver as it is breaks nothing', async () => {
    for (const fetchBits of [64, 128, 512] as const) for (const ats of [false, true]) expect(await verdictOf({}, { ats, fetchBits })).toBeUndefined();
  });

  test('device TLB left out behind an unmap', async () => {
    expect(await verdictOf({ flushDeviceTlb: () => {} })).toBe('D1');
  });

  test('device TLB before IOTLB', async () => {
    const flushIotlb: RiscvOperations['flushIotlb'] = (riscv, tag, pscid, high, low, pages) => {
      const behind = CacheTag.next.peek(riscv.kernel, tag);
      if (behind !== NULL) flushDeviceTlb(riscv, behind, high, low, pages);
      riscvOperations.flushIotlb(riscv, tag, pscid, high, low, pages);
    };
    expect(await verdictOf({ flushIotlb })).toBe('C4');
  });

  test('IOTLB left out: the device is filled from it again', async () => {
    expect(await verdictOf({ flushIotlb: () => {} })).toBe('D1');
  });

  test('what a device keeps of the domain that it leaves', async () => {
    expect(await verdictOf({ forgetKept: () => {} })).toBe('D4');
  });
});

test('two units before one domain: each has its IOTLB, then its devices', async () => {
  const { host, driver, functions } = twoUnits();
  const domain = driver.allocPagingDomain(functions[0]!, 0);
  for (const each of functions) {
    driver.attach(domain, each);
    driver.enableAts(each);
  }
  driver.map(domain, 0, 0x1000, host.frames.allocate(16), READ_WRITE);
  const queued = orderOf(host, () => driver.sync(domain, 0, 0x1000, 1));
  expect(queued).toEqual(['1 IOTINVAL', '1 IOFENCE', '1 ATS', '1 IOFENCE', '0 IOTINVAL', '0 IOFENCE', '0 ATS', '0 IOFENCE']);
});

function twoUnits() {
  const host = Host.create(4 << 20, 2 << 20);
  Machine.create(host);
  const functions = [0x108, 0x110].map((rid) => Machine.addFunction(host, Machine.addRiscvUnit(host, { ats: true }), { rid, ats: true }));
  const machine = new Machine(host);
  RiscvDriver.boot(host, machine);
  const driver = new RiscvDriver(host, machine);
  for (const each of functions) driver.probe(each);
  return { host, driver, functions };
}

/** What is queued meanwhile: the unit, and the command's name. */
function orderOf({ kernel }: Host, body: () => void): string[] {
  const names = new Map(Object.entries(commands.Opcode).map(([name, opcode]) => [opcode as number, name]));
  const history = new History(new SharedArrayBuffer(historyBytes(1, 256)), 1, 256);
  kernel.history = history;
  body();
  kernel.history = null;
  const cursor = new Cursor(history.words);
  const found: string[] = [];
  for (let index = 0; index < history.length(0); index++) {
    cursor.at = history.at(0, index);
    if (cursor.kind === InvalidationQueued.kind) found.push(`${InvalidationQueued.get.unit(cursor)} ${names.get(commands.opcodeOf(InvalidationQueued.get.first(cursor)))}`);
  }
  return found;
}
