/** A confidential guest's DMA API: what an address is made of under each policy, before and after the switch, and when a switch is refused. */
import { ConfidentialGuest } from '#src/actors/confidential-guest';
import { GuestDriver } from '#src/actors/guest-driver';
import { SecurityManager } from '#src/actors/security-manager';
import { splitAt, TBitPolicy } from '#src/drivers/tsm/link-tsm';
import { PciFunction } from '#src/hardware/function';
import { bindDriver, enterTrusted, GuestDma, mapForDevice, unmapForDevice } from '#src/kernel/guest-dma';
import type { Variant } from '#src/kernel/variant';
import { expect, test } from 'vitest';
import { bounce, confidentialWorld, secret } from './confidential-world.ts';
import { errnoOf, page } from './vmm.ts';

function bound(changes: Partial<Variant> = {}) {
  const all = confidentialWorld(changes);
  expect(new SecurityManager(all.red, 'A').bind('red')).toBeNull();
  const driver = new GuestDriver(all.red, 'A');
  const live = () => GuestDma.live.peek(all.host.kernel, all.dma);
  return { ...all, driver, live, guest: new ConfidentialGuest(all.red, 'red') };
}
const under = (policy: TBitPolicy): Partial<Variant> => ({ confidential: { policy: () => policy, mayFlip: () => true } });
const iova = 0x1000_0000;

test.each([
  ['bypass', TBitPolicy.BYPASS, bounce[0]! * page, iova],
  ['one table', TBitPolicy.ONE_TABLE, iova, iova],
  ['C bit', TBitPolicy.C_BIT, iova, iova],
  ['split', TBitPolicy.SPLIT, splitAt + bounce[0]! * page, secret * page],
])('%s: an address before the switch, and after it', (_, policy, before, after) => {
  const { driver, live } = bound(under(policy));
  expect([driver.map(secret), live()]).toEqual([before, 1]);
  expect([driver.unmap(before), live()]).toEqual([null, 0]);
  expect(driver.enterTrusted()).toBeNull();
  expect([driver.isTrusted(), driver.map(secret), driver.unmap(after), live()]).toEqual([true, after, null, 0]);
});

test.each([
  ['one table', TBitPolicy.ONE_TABLE],
  ['C bit', TBitPolicy.C_BIT],
  ['split', TBitPolicy.SPLIT],
])('%s: an address from before the switch goes back after it', (_, policy) => {
  const { driver, live } = bound(under(policy));
  const address = driver.map(secret) as number;
  expect([driver.enterTrusted(), driver.unmap(address), live(), driver.map(secret)]).toEqual([null, null, 0, expect.any(Number)]);
});

test('bypass: dma_addr1 of the seed cannot be given back after the switch', () => {
  const { driver, live } = bound({ confidential: { mayFlip: () => true } });
  const address = driver.map(secret) as number;
  expect([driver.enterTrusted(), driver.unmap(address), live()]).toEqual([null, 'EINVAL', 1]);
});

test('a switch is refused while something is mapped, and while the device is bus master', () => {
  const { kernel, dma, driver } = bound();
  const address = driver.map(secret) as number;
  expect([driver.enterTrusted(), driver.isTrusted()]).toEqual(['EBUSY', false]);
  driver.unmap(address);
  expect(errnoOf(() => enterTrusted(kernel, dma))).toBe('EBUSY');
  expect([driver.enterTrusted(), driver.isTrusted()]).toEqual([null, true]);
  expect([driver.map(secret), driver.leaveTrusted()]).toEqual([iova, 'EBUSY']);
  expect([driver.unmap(iova), driver.leaveTrusted(), driver.isTrusted()]).toEqual([null, null, false]);
});

test('a bounce page has what the page has, and the page what the device has written there', () => {
  const { driver, guest } = bound();
  guest.store(secret, 0x1234);
  driver.map(secret);
  expect(guest.load(bounce[0]!)).toBe(0x1234);
  guest.store(bounce[0]!, 0x5678);
  driver.unmap(bounce[0]! * page);
  expect(guest.load(secret)).toBe(0x5678);
});

test('nothing is mapped without a driver, which is not unbound while something is; bounce pages and addresses run out', () => {
  const { kernel, dma, driver } = bound();
  const addresses = bounce.map(() => mapForDevice(kernel, dma, secret));
  expect([driver.map(secret), errnoOf(() => bindDriver(kernel, dma, false))]).toEqual(['ENOSPC', 'EBUSY']);
  for (const address of addresses) unmapForDevice(kernel, dma, address);
  expect([driver.unbind(), driver.map(secret), driver.bind(), driver.map(secret)]).toEqual([null, 'ENODEV', null, bounce[0]! * page]);
});

test('the device reads through the address what the page holds, before the switch by way of the host', () => {
  const { world, machine, red, driver, guest, group } = bound();
  const iommufd = red.open('/dev/iommu');
  const ioas = red.ioas(iommufd) as number;
  red.map(iommufd, ioas, 0, BigInt(world.directory['red.memory']!), 12 * page);
  red.attach(red.bind(group.vfio[0]!, iommufd) as number, ioas);
  const engine = machine.dma(world.directory['A'] as ReturnType<typeof PciFunction.create>);
  guest.store(secret, 0x1234);
  for (const trusted of [false, true]) {
    if (trusted) driver.enterTrusted();
    const address = driver.map(secret) as number;
    expect([engine.read(0, address, 4), engine.bufferWord(0)]).toEqual([0, 0x1234]);
    driver.unmap(address);
    expect(engine.read(0, secret * page, 4)).not.toBe(0);
  }
});
