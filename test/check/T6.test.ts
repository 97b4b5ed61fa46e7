import { Visibility } from '#hostmem/frames';
import { ownedAccess } from '#src/hardware/events';
import { CachesFlushed, PageBlocked, PageConverted } from '#src/kernel/events';
import { expect, test } from 'vitest';
import { court } from './histories.ts';

async function setUp() {
  const here = await court('T6');
  const memory = here.vmm.world.host.kernel;
  return {
    here,
    block: () => PageBlocked.emit(memory, 5, 1),
    flush: (trusted: number) => CachesFlushed.emit(memory, 5, 1, trusted),
    convert: (visibility: number = Visibility.PRIVATE) => PageConverted.emit(memory, 5, 1, visibility),
    reach: (trusted: number, frame = 5) => ownedAccess.emit(memory, here.rid('A'), trusted, 0, 0x1000, frame, Visibility.PENDING),
  };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['blocked, flushed, converted', ({ block, flush, convert }) => {
    block();
    flush(1);
    flush(0);
    convert();
  }],
  ['what was in flight ends before its own flush has', ({ block, flush, reach, convert }) => {
    block();
    flush(1);
    reach(0);
    flush(0);
    convert();
    reach(0);
  }],
  ['another page', ({ block, flush, reach }) => {
    block();
    flush(0);
    reach(0, 6);
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toBeNull();
});

test.each<[string, string, (all: All) => void]>([
  ['nothing is flushed', 'is private from now on, and caches of T=0 and T=1 were not flushed', ({ block, convert }) => {
    block();
    convert();
  }],
  ['the other context is forgotten', 'is shared from now on, and caches of T=0 were not', ({ block, flush, convert }) => {
    block();
    flush(1);
    convert(Visibility.SHARED);
  }],
  ['the flush comes before the block', 'caches of T=0 were not', ({ block, flush, convert }) => {
    flush(0);
    block();
    flush(1);
    convert();
  }],
  ['a DMA gets through between flush and the new role', 'with T=1 reached frame 0x5 while the page was between two roles', ({ block, flush, reach }) => {
    block();
    flush(1);
    reach(1);
  }],
])('breaks: %s', async (_, message, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.here.verdict()).toMatchObject({ invariant: 'T6', message: expect.stringContaining(message) });
});
