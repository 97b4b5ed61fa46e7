/** The two contexts of a requester, the ownership check, and what caches remember (SEMANTICS f.2, f.3). */
import { Visibility } from '#hostmem/frames';
import { privatePage, splitAt, TBitPolicy } from '#src/drivers/tsm/link-tsm';
import { TrustReason } from '#src/hardware/ownership';
import { setBusMaster } from '#src/hardware/tdisp';
import { describe, expect, test } from 'vitest';
import { confidentialMachine, guest, guestIova, hostIova } from './confidential-machine.ts';

const { HYPERVISOR, SHARED, PENDING, PRIVATE } = Visibility;
const bound = (policy: TBitPolicy, permissions?: number) => {
  const one = confidentialMachine();
  one.bind(policy, permissions);
  return one;
};

describe('with T=0 and the host\'s table', () => {
  test.each([
    ['hypervisor', HYPERVISOR, 0],
    ['shared', SHARED, 0],
    ['pending', PENDING, TrustReason.PRIVATE],
    ['private', PRIVATE, TrustReason.PRIVATE],
  ])('a %s page answers with its own reason, cached or not', (_, visibility, reason) => {
    const { see, read } = confidentialMachine();
    see(visibility);
    for (let i = 0; i < 2; i++) expect(read(hostIova)).toBe(reason);
  });

  test('a unit that looks at hits sees what has become private since it was cached; one that does not reaches it until it is flushed', () => {
    for (const checksHits of [true, false]) {
      const { see, read, driver, domain } = confidentialMachine({ checksHits });
      see(SHARED);
      expect(read(hostIova)).toBe(0);
      see(PRIVATE);
      expect(read(hostIova)).toBe(checksHits ? TrustReason.PRIVATE : 0);
      driver.sync(domain, 0, hostIova, 1, true);
      expect(read(hostIova)).toBe(TrustReason.PRIVATE);
    }
  });

  test('what was refused is not cached', () => {
    const { see, read } = confidentialMachine({ checksHits: false });
    see(PRIVATE);
    for (let i = 0; i < 2; i++) expect(read(hostIova)).toBe(TrustReason.PRIVATE);
  });
});

describe('with T=1', () => {
  test('nothing is sent before RUN, and nothing goes anywhere without a context', () => {
    const one = bound(TBitPolicy.BYPASS);
    one.see(PRIVATE);
    expect(one.read(guestIova)).not.toBe(0);
    one.run();
    expect(one.read(guestIova)).toBe(0);
    const lone = confidentialMachine();
    lone.run();
    expect(lone.read(guestIova)).toBe(TrustReason.NO_CONTEXT);
  });

  test.each([
    ['its own', PRIVATE, guest, 0],
    ['another guest\'s', PRIVATE, guest + 1, TrustReason.FOREIGN],
    ['its own that it has not accepted', PENDING, guest, TrustReason.NOT_ACCEPTED],
    ['a shared page', SHARED, guest, 0],
  ])('through the trusted table it reaches %s page by its own reason', (_, visibility, of, reason) => {
    const one = bound(TBitPolicy.BYPASS);
    one.run();
    one.see(visibility, of);
    expect(one.read(guestIova)).toBe(reason);
    expect(one.read(0x9000)).toBe(TrustReason.NOT_MAPPED);
  });

  test('where the hardware keeps it from them, it reaches no shared page, and T=0 does', () => {
    const one = confidentialMachine({ reachesShared: false });
    one.bind(TBitPolicy.ONE_TABLE);
    one.run();
    one.see(SHARED);
    expect([one.read(guestIova), one.readUntrusted(guestIova)]).toEqual([TrustReason.NOT_PRIVATE, 0]);
    one.see(PRIVATE);
    expect(one.read(guestIova)).toBe(0);
  });

  test('what T=1 has cached is not what T=0 finds', () => {
    const one = confidentialMachine({ checksHits: false });
    one.bind(TBitPolicy.ONE_TABLE);
    one.run();
    one.see(PRIVATE);
    expect(one.read(guestIova)).toBe(0);
    expect(one.readUntrusted(guestIova)).toBe(TrustReason.PRIVATE);
    one.see(SHARED);
    expect(one.readUntrusted(guestIova)).toBe(0);
  });

  test('an unmap flushes: the address leads nowhere', () => {
    const one = bound(TBitPolicy.BYPASS);
    one.run();
    one.see(PRIVATE);
    expect(one.read(guestIova)).toBe(0);
    expect(one.tsm.unmap(one.pciFunction, guestIova)).toBe(one.frame);
    expect(one.read(guestIova)).toBe(TrustReason.NOT_MAPPED);
    expect(one.tsm.unmap(one.pciFunction, guestIova)).toBe(0);
  });

  test('an unbind stops the interface, and gives all frames of its table back', () => {
    const one = confidentialMachine();
    const before = one.host.frames.inUse;
    one.bind(TBitPolicy.BYPASS);
    one.run();
    one.see(PRIVATE);
    expect(one.read(guestIova)).toBe(0);
    one.tsm.unbind(one.pciFunction);
    expect(one.host.frames.inUse).toBe(before);
    expect(one.read(guestIova)).not.toBe(0);
  });
});

describe('policies', () => {
  test('bypass: an address of one value of T is nothing to the other', () => {
    const one = bound(TBitPolicy.BYPASS);
    one.see(SHARED);
    expect([one.read(hostIova), one.read(guestIova)]).toEqual([0, expect.any(Number)]);
    one.run();
    expect([one.read(hostIova), one.read(guestIova)]).toEqual([TrustReason.NOT_MAPPED, 0]);
    expect(one.readUntrusted(hostIova)).toBe(0);
  });

  test('one table: an address is good for both, while its page is shared', () => {
    const one = bound(TBitPolicy.ONE_TABLE);
    one.see(SHARED);
    expect(one.read(guestIova)).toBe(0);
    one.run();
    expect([one.read(guestIova), one.readUntrusted(guestIova)]).toEqual([0, 0]);
  });

  test('C bit: the entry says what the page has to be', () => {
    const shared = bound(TBitPolicy.C_BIT);
    const secret = bound(TBitPolicy.C_BIT, 3 | privatePage);
    for (const one of [shared, secret]) one.run();
    shared.see(SHARED);
    secret.see(PRIVATE);
    for (let i = 0; i < 2; i++) expect([shared.read(guestIova), shared.readUntrusted(guestIova), secret.read(guestIova)]).toEqual([0, 0, 0]);
    expect(secret.readUntrusted(guestIova)).toBe(TrustReason.PRIVATE);
    shared.see(PRIVATE);
    secret.see(SHARED);
    expect([shared.read(guestIova), secret.read(guestIova)]).toEqual([TrustReason.NOT_AS_CLAIMED, TrustReason.NOT_AS_CLAIMED]);
  });

  test('split: what the halves say has to be true of the page', () => {
    const one = bound(TBitPolicy.SPLIT);
    one.tsm.map(one.pciFunction, splitAt + guestIova, one.frame, 3);
    one.run();
    one.see(PRIVATE);
    expect([one.read(guestIova), one.read(splitAt + guestIova)]).toEqual([0, TrustReason.NOT_AS_CLAIMED]);
    one.see(SHARED);
    expect([one.read(guestIova), one.read(splitAt + guestIova)]).toEqual([TrustReason.NOT_AS_CLAIMED, 0]);
  });
});

test('without bus master a function sends nothing, whatever its T', () => {
  const one = bound(TBitPolicy.BYPASS);
  setBusMaster(one.host.kernel, one.tdi, false);
  expect(one.read(hostIova)).toBe(TrustReason.BUS_MASTER_OFF);
  one.run();
  expect(one.read(guestIova)).toBe(TrustReason.BUS_MASTER_OFF);
});
