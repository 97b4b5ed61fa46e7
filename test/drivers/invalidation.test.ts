import { NULL } from '#hostmem/object';
import { CacheTag, IommuDomain } from '#src/drivers/domain';
import { Batch } from '#src/drivers/vtd/batch';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { blockOrder } from '#src/drivers/page-block';
import { vtdOperations, type VtdOperations } from '#src/drivers/vtd/operations';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { eightFaultRecords, smallMachine, type SmallMachine } from '../hardware/small-machine.ts';

/** A driver that notes what it submits. */
function recording(small: SmallMachine): { driver: VtdDriver; submitted: number[][] } {
  const submitted: number[][] = [];
  const submit: VtdOperations['submit'] = (vtd, unit, batch) => {
    for (let i = 0; i < batch.length; i++) submitted.push([0, 1, 2, 3].map((word) => batch.word(i, word)));
    return vtdOperations.submit(vtd, unit, batch);
  };
  return { driver: new VtdDriver(small.host, small.machine, { ...vtdOperations, submit }), submitted };
}

const wordsOf = (batch: Batch): number[][] => Array.from({ length: batch.length }, (_, i) => [0, 1, 2, 3].map((word) => batch.word(i, word)));

test('W7: unmapping [0x5000, 0x8fff] invalidates 64 KiB at 0', () => {
  expect(blockOrder(0, 0x5000, 0, 0x8fff)).toBe(4);
  const small = smallMachine();
  const { driver, submitted } = recording(small);
  const domain = driver.allocPagingDomain(small.functions[0]!, 0);
  driver.attach(domain, small.functions[0]!);
  driver.sync(domain, 0, 0x5000, 4, true);
  expect(submitted).toEqual(wordsOf(new Batch().iotlbPages(2, 0, 0, 4, true)));
  expect(submitted[0]![2]).toBe(0x44);
});

test('the block of an order holds the range, and no smaller aligned block does', () => {
  const page = fc.bigInt({ min: 0n, max: (1n << 52n) - 1n });
  fc.assert(
    fc.property(page, page, (a, b) => {
      const [first, last] = a < b ? [a, b] : [b, a];
      const half = (value: bigint): [number, number] => [Number(BigInt.asIntN(32, (value << 12n) >> 32n)), Number(BigInt.asIntN(32, value << 12n))];
      const order = BigInt(blockOrder(...half(first), ...half(last)));
      expect(first >> order).toBe(last >> order);
      if (order > 0n) expect(first >> (order - 1n)).not.toBe(last >> (order - 1n));
    }),
  );
});

test('a range larger than the unit can name is invalidated with its whole domain', () => {
  const small = smallMachine({ capability: (eightFaultRecords & ~(0x3fn << 48n)) | (3n << 48n) });
  const { driver, submitted } = recording(small);
  const domain = driver.allocPagingDomain(small.functions[0]!, 0);
  driver.attach(domain, small.functions[0]!);
  driver.sync(domain, 0, 0x8000, 8, true);
  driver.sync(domain, 0, 0x8000, 9, true);
  driver.sync(domain, 0, 0, 2 ** 52, true);
  driver.sync(domain, 0, 0x7000, 2, true);
  const expected = [new Batch().iotlbPages(2, 0, 0x8000, 3, true), new Batch().iotlbOfDomain(2), new Batch().iotlbOfDomain(2), new Batch().iotlbOfDomain(2)];
  expect(submitted).toEqual(expected.flatMap(wordsOf));
});

test('Q2: an invalidation after tables were removed does not claim to be of leaves only', () => {
  const small = smallMachine();
  const { driver, submitted } = recording(small);
  const domain = driver.allocPagingDomain(small.functions[0]!, 0);
  driver.attach(domain, small.functions[0]!);
  driver.sync(domain, 0, 0x1000, 1, false);
  expect(submitted[0]![2]).toBe(0x1000);
});

test('Q6: a context entry that goes is followed by context cache, then IOTLB of its domain', () => {
  const small = smallMachine();
  const { driver, submitted } = recording(small);
  const domain = driver.allocPagingDomain(small.functions[0]!, 0);
  driver.attach(domain, small.functions[0]!);
  expect(submitted).toEqual([]);
  driver.attach(driver.blockedDomain, small.functions[0]!);
  expect(submitted).toEqual(wordsOf(new Batch().contextCacheOfRequester(2, 0x0108).iotlbOfDomain(2)));
  driver.attach(driver.blockedDomain, small.functions[0]!);
  expect(submitted.length).toBe(2);
});

test('a domain nobody is attached to invalidates nowhere; two devices of one unit share a tag', () => {
  const small = smallMachine();
  const { driver, submitted } = recording(small);
  const { kernel } = small.host;
  const domain = driver.allocPagingDomain(small.functions[0]!, 0);
  driver.sync(domain, 0, 0x1000, 1, true);
  expect(submitted).toEqual([]);
  for (const each of small.functions) driver.attach(domain, each);
  const tag = IommuDomain.firstTag.peek(kernel, domain);
  expect([CacheTag.domainId.peek(kernel, tag), CacheTag.users.peek(kernel, tag), CacheTag.next.peek(kernel, tag)]).toEqual([2, 2, NULL]);
  driver.sync(domain, 0, 0x1000, 1, true);
  expect(submitted.length).toBe(1);
  for (const each of small.functions) driver.attach(driver.blockedDomain, each);
  expect(IommuDomain.firstTag.peek(kernel, domain)).toBe(NULL);
});

test('a domain id is the lowest free one, and is free again after the last detach', () => {
  const small = smallMachine();
  const { driver, functions, host } = small;
  const domains = [0, 1, 2].map(() => driver.allocPagingDomain(functions[0]!, 0));
  const idOf = (index: number): number => CacheTag.domainId.peek(host.kernel, IommuDomain.firstTag.peek(host.kernel, domains[index]!));
  driver.attach(domains[0]!, functions[0]!);
  driver.attach(domains[1]!, functions[1]!);
  expect([idOf(0), idOf(1)]).toEqual([2, 3]);
  driver.attach(domains[2]!, functions[0]!);
  expect(idOf(2)).toBe(2);
});

test('without a domain id an attach is refused and the device stays blocked', () => {
  const small = smallMachine({ capability: eightFaultRecords & ~7n }, Array.from({ length: 15 }, (_, i) => ({ rid: 0x100 + i * 8 })));
  const { driver, functions } = small;
  const outcomes = functions.map((each) => driver.attach(driver.allocPagingDomain(each, 0), each));
  expect(outcomes).toEqual([...Array<number>(14).fill(0), 'ENOSPC']);
  expect(small.engines[14]!.read(0, 0, 4)).toBe(2);
});
