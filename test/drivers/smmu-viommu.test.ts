/** A vIOMMU of SMMUv3 in its driver: what becomes of a guest's commands, and how many reach the queue. */
import { peek } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { DomainFlags, type Invalidations } from '#src/drivers/driver';
import { SmmuDriver } from '#src/drivers/smmuv3/driver';
import { smmuOperations } from '#src/drivers/smmuv3/operations';
import { convert } from '#src/drivers/smmuv3/viommu';
import { ringLength, UnitCommandRing } from '#src/hardware/command-engine';
import { Opcode, type Command } from '#src/hardware/smmuv3/commands';
import { SmmuRegisters } from '#src/hardware/smmuv3/registers';
import { IommuDomain } from '#src/drivers/domain';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { smallVendor } from './small-vendor.ts';

const [stream, virtualStream, unknownStream] = [0x108, 0x18, 0x20] as const;
const asid = 7;

function setUp(smmuPartialBatch = true) {
  const { host, machine, driver: first, functions, smmu, queue } = smallVendor('smmuv3');
  // Numbers other than the guest's.
  for (let i = 0; i < 4; i++) first.allocPagingDomain(functions[0]!, DomainFlags.NEST_PARENT);
  const driver = new SmmuDriver(host, machine, smmuOperations, { smmuPartialBatch });
  const parent = driver.allocPagingDomain(functions[0]!, DomainFlags.NEST_PARENT);
  const vmid = IommuDomain.driverData.peek(host.kernel, parent);
  const { viommu } = driver.viommuInit(functions[0]!, parent, { type: 1, bytes: new Uint8Array(0) }, 0);
  expect(driver.vdeviceInit(viommu, functions[0]!, BigInt(virtualStream))).toBe(0);
  const ring = SmmuRegisters.commands.peek(host.kernel, smmu);
  const tail = (): number => peek(host.kernel, UnitCommandRing.tail.address(host.kernel, ring));
  const wordsOf = (slot: number): Command => {
    const at = hpaOf(UnitCommandRing.frame.peek(host.kernel, ring) as Frame) + slot * 16;
    return [peek(host.ram, at), peek(host.ram, at + 4), peek(host.ram, at + 8), peek(host.ram, at + 12)];
  };
  /** What the queue got, a batch for each SYNC, and what the caller was told. */
  const invalidate = (commands: readonly Command[], over: Partial<Invalidations> = {}) => {
    const asked: Invalidations = { type: 1, entryBytes: 16, count: commands.length, bytes: new Uint8Array(Int32Array.from(commands.flat()).buffer), handled: 0, ...over };
    const from = tail();
    const answer = driver.viommuInvalidate(viommu, asked);
    const batches: Command[][] = [];
    let batch: Command[] = [];
    for (let slot = from; slot !== tail(); slot = (slot + 1) % ringLength) {
      if ((wordsOf(slot)[0] & 0xff) !== Opcode.SYNC) batch.push(wordsOf(slot));
      else {
        batches.push(batch);
        batch = [];
      }
    }
    expect(batch).toEqual([]);
    return { answer, handled: asked.handled, batches };
  };
  return { host, driver, functions, parent, vmid, viommu: viommu as Ref<'SmmuViommu'>, invalidate, queue };
}

/** A guest names its own VMID, which is nothing to the host. */
const guestVmid = 0x55;
const ofAddress = (opcode: number): Command => [opcode, (asid << 16) | guestVmid, 0x1234_5001, 0x77];
const ofStream = (opcode: number, named: number = virtualStream): Command => [opcode | (3 << 12), named, 0x52, 0];

describe('a command of the guest', () => {
  test.each([
    ['NSNH_ALL', ofAddress(Opcode.TLBI_NSNH_ALL)], ['NH_ALL', ofAddress(Opcode.TLBI_NH_ALL)], ['NH_ASID', ofAddress(Opcode.TLBI_NH_ASID)],
    ['NH_VA', ofAddress(Opcode.TLBI_NH_VA)], ['NH_VAA', ofAddress(Opcode.TLBI_NH_VAA)],
  ] as const)('%s gets the VMID of its vIOMMU', (name, command) => {
    const { host, viommu, vmid } = setUp();
    expect(vmid).not.toBe(guestVmid);
    const converted: Command = name === 'NSNH_ALL' ? [Opcode.TLBI_NH_ALL, vmid, 0, 0] : [command[0], (asid << 16) | vmid, command[2], command[3]];
    expect(convert(host.kernel, viommu, command)).toEqual(converted);
  });

  test.each(['ATC_INV', 'CFGI_CD', 'CFGI_CD_ALL'] as const)('%s gets the stream of the device with that number', (name) => {
    const opcode = Opcode[name];
    const { host, viommu } = setUp();
    expect(convert(host.kernel, viommu, ofStream(opcode))).toEqual([opcode | (3 << 12), stream, 0x52, 0]);
    expect(convert(host.kernel, viommu, ofStream(opcode, unknownStream))).toBeNull();
    // The host's number of the stream is none of the guest's.
    expect(convert(host.kernel, viommu, ofStream(opcode, stream))).toBeNull();
  });

  test('of any other opcode is refused', () => {
    const { host, viommu } = setUp();
    const taken = new Set<number>([0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x30, 0x40]);
    for (let opcode = 0; opcode < 256; opcode++) expect(convert(host.kernel, viommu, [opcode, virtualStream, 0, 0]) !== null).toBe(taken.has(opcode));
  });
});

const page = (index: number): Command => [Opcode.TLBI_NH_VA, (asid << 16) | guestVmid, index << 12, 0];
const bad: Command = [Opcode.CFGI_CD, unknownStream, 1, 0];
const batchesOf = (commands: readonly Command[]): Command[][] =>
  Array.from({ length: Math.ceil(commands.length / 63) }, (_, index) => commands.slice(index * 63, index * 63 + 63));

describe.each([62, 63, 64, 126])('%i commands', (count) => {
  test.each([true, false])('of which one cannot be converted, whichever: all before it are counted; K2 (%s): what the last full batch left is issued or not', (isAs72) => {
    const { invalidate, vmid } = setUp(isAs72);
    const good = Array.from({ length: count }, (_, index) => page(index));
    const issued = good.map(([first, , third, fourth]): Command => [first, (asid << 16) | vmid, third, fourth]);
    expect(invalidate(good)).toEqual({ answer: 0, handled: count, batches: batchesOf(issued) });
    for (let at = 0; at < count; at++) {
      const reached = isAs72 ? at - (at % 63) : at;
      expect(invalidate(good.with(at, bad))).toEqual({ answer: 'EIO', handled: at, batches: batchesOf(issued.slice(0, reached)) });
    }
  });
});

test('what was dropped by a refused call is in no later batch', () => {
  const { invalidate } = setUp();
  invalidate([page(1), bad]);
  expect(invalidate([page(2)]).batches.flat().map(([, , address]) => address)).toEqual([0x2000]);
});

test('another type and no entries are EINVAL, entries that are not there EFAULT, longer ones with something in them E2BIG, and nothing is handled', () => {
  const { invalidate, vmid } = setUp();
  const nothing = { handled: 0, batches: [] };
  expect(invalidate([page(1)], { type: 0 })).toEqual({ answer: 'EINVAL', ...nothing });
  expect(invalidate([])).toEqual({ answer: 'EINVAL', ...nothing });
  expect(invalidate([page(1)], { count: 2 })).toEqual({ answer: 'EFAULT', ...nothing });
  const long = new Uint8Array(48);
  long[0] = long[24] = Opcode.TLBI_NH_ALL;
  expect(invalidate([], { count: 2, entryBytes: 24, bytes: long })).toMatchObject({ answer: 0, handled: 2 });
  expect(invalidate([], { count: 2, entryBytes: 24, bytes: long.with(47, 1) })).toEqual({ answer: 'E2BIG', ...nothing });
  // The rest of a short one is 0.
  const short = new Uint8Array(Int32Array.of(...page(1).slice(0, 2)).buffer);
  expect(invalidate([], { count: 1, entryBytes: 8, bytes: short }).batches).toEqual([[[Opcode.TLBI_NH_VA, (asid << 16) | vmid, 0, 0]]]);
});

test('the host survives whatever a guest queues: commands that are converted are legal ones', () => {
  const { invalidate, queue } = setUp();
  const word = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  fc.assert(fc.property(fc.array(fc.tuple(word, fc.oneof(word, fc.constant(virtualStream)), word, word), { minLength: 1, maxLength: 20 }), (commands) => {
    const { answer, handled } = invalidate(commands);
    expect([0, 'EIO']).toContain(answer);
    expect(handled === commands.length).toBe(answer === 0);
    expect(queue.ready()).toBe(false);
  }));
});

test('a number stands for one stream: a function that has an alias too is refused, and a number is free again when its device has lost it', () => {
  const { host, machine, driver, functions } = smallVendor('smmuv3', { functions: [{ rid: 0x108 }, { rid: 0x110, sourceId: 0x100 }] });
  expect(machine.units).toEqual([]);
  const parent = driver.allocPagingDomain(functions[0]!, DomainFlags.NEST_PARENT);
  const { viommu } = driver.viommuInit!(functions[0]!, parent, { type: 1, bytes: new Uint8Array(0) }, 0);
  expect(driver.vdeviceInit!(viommu, functions[1]!, 1n)).toBe('EOPNOTSUPP');
  expect(driver.vdeviceInit!(viommu, functions[0]!, 1n)).toBe(0);
  const known = (): boolean => convert(host.kernel, viommu as Ref<'SmmuViommu'>, [Opcode.CFGI_CD, 1, 0, 0]) !== null;
  expect(known()).toBe(true);
  driver.vdeviceDestroy!(viommu, functions[0]!, 1n);
  expect(known()).toBe(false);
});
