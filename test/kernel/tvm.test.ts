/** Pages of a confidential guest between private and shared (SEMANTICS f.3 X2), and its allocator. */
import { guestOf, Visibility, visibilityOf } from '#hostmem/frames';
import { Cursor, History, historyBytes } from '#hostmem/history';
import { ConfidentialGuest } from '#src/actors/confidential-guest';
import { CachesFlushed, PageBlocked, PageConverted } from '#src/kernel/events';
import { guestFrame, Tvm } from '#src/kernel/tvm';
import { expect, test } from 'vitest';
import { confidentialWorld, free, secret, shared } from './confidential-world.ts';

function redsPages() {
  const all = confidentialWorld();
  const tvm = all.tvm('red');
  const visibility = (page: number) => visibilityOf(all.host.frames.peekVisibility(guestFrame(all.kernel, tvm, page)));
  const freePages = () => Tvm.freePages.peek(all.host.kernel, tvm);
  return { ...all, tvmOfRed: tvm, guest: new ConfidentialGuest(all.red, 'red'), visibility, freePages };
}
const allFree = free.reduce((bits, page) => bits | (1 << page), 0);

test('each page is the guest\'s own, private but for those that were named and the first two', () => {
  const { host, kernel, tvmOfRed, visibility, tvm } = redsPages();
  expect([0, 1, shared, secret].map(visibility)).toEqual([Visibility.SHARED, Visibility.SHARED, Visibility.SHARED, Visibility.PRIVATE]);
  const owners = ['red', 'blue'].map((name) => guestOf(host.frames.peekVisibility(guestFrame(kernel, tvm(name), secret))));
  expect(owners[0]).toBe(Tvm.guest.peek(host.kernel, tvmOfRed));
  expect(owners[0]).not.toBe(owners[1]);
});

test('a conversion blocks, flushes both contexts, and then lets the page have its new role', () => {
  const { host, guest, visibility } = redsPages();
  const history = (host.kernel.history = new History(new SharedArrayBuffer(historyBytes(1, 64)), 1, 64));
  expect(guest.makePrivate(shared)).toBeNull();
  const cursor = new Cursor(history.words);
  const seen: unknown[] = [];
  for (let index = 0; index < history.length(0); index++) {
    cursor.at = history.at(0, index);
    if (cursor.kind === PageBlocked.kind) seen.push('blocked');
    if (cursor.kind === CachesFlushed.kind) seen.push(CachesFlushed.get.trusted(cursor));
    if (cursor.kind === PageConverted.kind) seen.push(PageConverted.get.visibility(cursor));
  }
  expect(seen).toEqual(['blocked', 0, 1, Visibility.PRIVATE]);
  expect([visibility(shared), guest.makePrivate(shared), guest.makeShared(shared), guest.makeShared(shared)]).toEqual([Visibility.PRIVATE, 'EINVAL', null, 'EINVAL']);
});

test('shared memory comes from the free pages and is private again when it goes back', () => {
  const { guest, visibility, freePages } = redsPages();
  const first = guest.allocateShared(2) as number;
  expect([visibility(first), visibility(first + 1)]).toEqual([Visibility.SHARED, Visibility.SHARED]);
  expect(freePages()).toBe(allFree & ~(3 << first));
  expect(guest.freeShared(first, 2)).toBeNull();
  expect([visibility(first), freePages()]).toEqual([Visibility.PRIVATE, allFree]);
  expect(guest.allocateShared(free.length + 1)).toBe('ENOMEM');
  expect(freePages()).toBe(allFree);
});

test('a refusal midway costs the guest the pages, whether they were converted or not; afterwards all is as before', () => {
  const { world, guest, visibility, freePages } = redsPages();
  world.refuseConversions('red', 1);
  expect(guest.allocateShared(2)).toBe('EIO');
  expect([visibility(free[0]!), visibility(free[1]!)]).toEqual([Visibility.SHARED, Visibility.PRIVATE]);
  expect(freePages()).toBe(allFree & ~(3 << free[0]!));
  expect(guest.allocateShared(2)).toBe(free[2]);
});

test('a freed frame is the hypervisor\'s', () => {
  const { host, kernel, tvmOfRed } = redsPages();
  const frame = guestFrame(kernel, tvmOfRed, secret);
  host.frames.drop(frame);
  expect(host.frames.peekVisibility(frame)).toBe(Visibility.HYPERVISOR);
});
