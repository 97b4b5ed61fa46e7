/** The checker of orders, on a register: what can be an order of overlapping calls, and what cannot. */
import { isLinearizable, type Operation, type SequentialModel } from '#src/check/linearize';
import { expect, test } from 'vitest';

type Call = { readonly write: number } | { readonly read: number };
const register: SequentialModel<number, Call> = {
  initial: 0,
  step: (state, call) => ('write' in call ? call.write : call.read === state ? state : null),
};
const call = (input: Call, began: number, ended: number = Infinity): Operation<Call> => ({ input, began, ended });

test.each<[string, boolean, Operation<Call>[]]>([
  ['nothing', true, []],
  ['a read of what was written before', true, [call({ write: 1 }, 1, 2), call({ read: 1 }, 3, 4)]],
  ['a read of what was there before a write that had returned', false, [call({ write: 1 }, 1, 2), call({ read: 0 }, 3, 4)]],
  ['reads of both values while a write runs, the old one first', true, [call({ write: 1 }, 1, 8), call({ read: 0 }, 2, 3), call({ read: 1 }, 4, 5)]],
  ['reads of both values while a write runs, the new one first', false, [call({ write: 1 }, 1, 8), call({ read: 1 }, 2, 3), call({ read: 0 }, 4, 5)]],
  ['a write that never returned may have come', true, [call({ write: 1 }, 1), call({ read: 1 }, 2, 3)]],
  ['or not', true, [call({ write: 1 }, 1), call({ read: 0 }, 2, 3)]],
  ['but it does not go away again', false, [call({ write: 1 }, 1), call({ read: 1 }, 2, 3), call({ read: 0 }, 4, 5)]],
  ['three writes at once, of which the reads see two in an order', true, [call({ write: 1 }, 1, 20), call({ write: 2 }, 2, 21), call({ write: 3 }, 3, 22), call({ read: 3 }, 4, 5), call({ read: 1 }, 6, 7)]],
  ['two readers who see two writes in two orders', false, [
    call({ write: 1 }, 1, 20), call({ write: 2 }, 2, 21), call({ read: 1 }, 3, 4), call({ read: 2 }, 5, 6), call({ read: 1 }, 7, 8),
  ]],
])('%s: %s', (_, expected, operations) => {
  expect(isLinearizable(operations, register, 10_000)).toBe(expected);
  // The order in which they are given means nothing.
  expect(isLinearizable(operations.toReversed(), register, 10_000)).toBe(expected);
});

test('what takes too long is not known', () => {
  const writes = Array.from({ length: 12 }, (_, value) => call({ write: value + 1 }, value, 100 + value));
  const impossible = [...writes, call({ read: 99 }, 200, 201)];
  expect(isLinearizable(impossible, register, 50)).toBeNull();
  expect(isLinearizable(impossible, register, 1_000_000)).toBe(false);
});
