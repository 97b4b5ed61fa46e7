import { Host } from '#hostmem/host';
import { mutex } from '#hostmem/locks';
import { UseAfterFree } from '#hostmem/object';
import { object, ref, u32, u64 } from '#hostmem/struct';
import { expect, test } from 'vitest';

const Crate = object('TestCrate', { lock: mutex, weight: u32.under('lock'), size: u64, next: ref('TestCrate') });

test('an access through a reference whose object was freed is seen, also when the block was reused', () => {
  const { kernel } = Host.create(1 << 20, 1 << 20);
  const crate = Crate.create(kernel);
  Crate.weight.write(kernel, crate, 7);
  expect(Crate.weight.read(kernel, crate)).toBe(7);
  Crate.free(kernel, crate);
  expect(() => Crate.weight.read(kernel, crate)).toThrow(UseAfterFree);
  const again = Crate.create(kernel);
  expect(again).not.toBe(crate);
  expect(Crate.weight.read(kernel, again)).toBe(0);
  expect(() => Crate.next.load(kernel, crate)).toThrow(/reused/);
});

test('a 64-bit field keeps all its bits', () => {
  const { kernel } = Host.create(1 << 20, 1 << 20);
  const crate = Crate.create(kernel);
  Crate.size.pokeBig(kernel, crate, 0xfedcba9876543210n);
  expect(Crate.size.peekBig(kernel, crate)).toBe(0xfedcba9876543210n);
});
