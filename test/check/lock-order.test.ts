import { describe, expect, test } from 'vitest';
import { describeCycle, LockOrder } from '#src/check/lock-order';
import { trace } from './trace.ts';

const cycleOf = (text: string): string | null => {
  const order = new LockOrder();
  order.fold(trace(text));
  const cycle = order.cycle();
  return cycle === null ? null : describeCycle(cycle, ['a', 'b', 'c']);
};

describe('a possible deadlock is reported from an execution in which nothing hung', () => {
  test('two locks in two orders, one after the other', () => {
    expect(cycleOf('0 LOCK x; 0 LOCK y; 0 UNLOCK y; 0 UNLOCK x; 1 LOCK y; 1 LOCK x; 1 UNLOCK x; 1 UNLOCK y')).toBe(
      'locks are taken in two orders: a takes y while it holds x (step 2); b takes x while it holds y (step 6)',
    );
  });

  test('three locks in a ring, by one actor that can never meet itself but may meet another', () => {
    const ring = '0 LOCK x; 0 LOCK y; 0 UNLOCK y; 0 UNLOCK x; 1 LOCK y; 1 LOCK z; 1 UNLOCK z; 1 UNLOCK y; 0 LOCK z; 0 LOCK x; 0 UNLOCK x; 0 UNLOCK z';
    expect(cycleOf(ring)).toContain('takes z while it holds y');
  });

  test('a semaphore read under a lock, the lock taken under it for writing', () => {
    expect(cycleOf('0 LOCK x; 0 RLOCK s; 0 RUNLOCK s; 0 UNLOCK x; 1 RMW s 65536; 1 LOCK x; 1 UNLOCK x; 1 UNLOCK s')).not.toBeNull();
  });

  test('two locks of one class, each taken under the other', () => {
    expect(cycleOf('0 LOCK x@4; 0 LOCK x@8; 0 UNLOCK x@8; 0 UNLOCK x@4; 1 LOCK x@8; 1 LOCK x@4; 1 UNLOCK x@4; 1 UNLOCK x@8')).not.toBeNull();
  });

  test('a wait under a lock for those who are counted in, one of whom takes that lock', () => {
    const counted = '0 RMW n 2; 0 LOCK x; 0 UNLOCK x; 0 RMW n 1; 0 RMW n 2; 0 LOCK x; 0 UNLOCK x; 0 RMW n 1; 1 LOCK x; 1 WAIT n; 1 UNLOCK x';
    expect(cycleOf(counted)).toContain('b takes n@0x');
  });

  test('a wait under a lock that is completed under the same lock', () => {
    expect(cycleOf('0 LOCK x; 0 STORE done 1; 0 UNLOCK x; 1 LOCK x; 1 WAIT done; 1 UNLOCK x')).not.toBeNull();
  });
});

describe('no deadlock is reported', () => {
  test('where the order is always the same', () => {
    expect(cycleOf('0 LOCK x; 0 LOCK y; 0 UNLOCK y; 0 UNLOCK x; 1 LOCK x; 1 LOCK y; 1 UNLOCK y; 1 UNLOCK x')).toBeNull();
  });

  test('where a lock was let go of before the other was taken', () => {
    expect(cycleOf('0 LOCK x; 0 UNLOCK x; 0 LOCK y; 0 UNLOCK y; 1 LOCK y; 1 UNLOCK y; 1 LOCK x; 1 UNLOCK x')).toBeNull();
  });

  test('between readers of semaphores that nobody writes', () => {
    expect(cycleOf('0 RLOCK s; 0 RLOCK t; 0 RUNLOCK t; 0 RUNLOCK s; 1 RLOCK t; 1 RLOCK s; 1 RUNLOCK s; 1 RUNLOCK t')).toBeNull();
  });

  test('where a lock that is held is counted in under, and waited for without it', () => {
    expect(cycleOf('0 LOCK x; 0 RMW n 2; 0 RMW n 1; 0 RMW n 2; 0 RMW n 1; 0 UNLOCK x; 1 WAIT n; 1 LOCK x; 1 UNLOCK x')).toBeNull();
  });
});

test('between readers it is reported once somebody writes: a reader queues behind a waiting writer', () => {
  const readers = '0 RLOCK s; 0 RLOCK t; 0 RUNLOCK t; 0 RUNLOCK s; 1 RLOCK t; 1 RLOCK s; 1 RUNLOCK s; 1 RUNLOCK t';
  expect(cycleOf(`${readers}; 2 LOCK s; 2 UNLOCK s; 2 LOCK t; 2 UNLOCK t`)).not.toBeNull();
});

test('the shortest cycle is told', () => {
  const order = new LockOrder();
  order.fold(trace('0 LOCK x; 0 LOCK y; 0 LOCK z; 0 UNLOCK z; 0 UNLOCK y; 0 UNLOCK x; 1 LOCK z; 1 LOCK x; 1 UNLOCK x; 1 UNLOCK z'));
  expect(order.cycle()).toHaveLength(2);
});
