/** The device interface's own state machine (SEMANTICS f.1). */
import { History, historyBytes } from '#hostmem/history';
import { changeConfiguration, lockInterface, Register, setBusMaster, startInterface, stopInterface, Tdi, TdiState } from '#src/hardware/tdisp';
import { tdiMoved } from '#src/hardware/events';
import { expect, test } from 'vitest';
import { countOf } from '../check/histories.ts';
import { confidentialMachine } from './confidential-machine.ts';

function unlocked() {
  const { host, tdi } = confidentialMachine();
  const kernel = host.kernel;
  const history = (kernel.history = new History(new SharedArrayBuffer(historyBytes(1, 64)), 1, 64));
  const state = () => Tdi.state.peek(kernel, tdi);
  return { kernel, tdi, state, moves: () => countOf(history, tdiMoved.kind) };
}

test('it is locked, started with the nonce that the lock gave, and stopped', () => {
  const { kernel, tdi, state, moves } = unlocked();
  const nonce = lockInterface(kernel, tdi);
  expect([nonce, state()]).toEqual([1, TdiState.LOCKED]);
  expect(startInterface(kernel, tdi, nonce)).toBe(true);
  expect(state()).toBe(TdiState.RUN);
  stopInterface(kernel, tdi);
  expect([state(), moves()]).toEqual([TdiState.UNLOCKED, 3]);
});

test('it starts from a lock alone, and with no other nonce; it is locked once', () => {
  const { kernel, tdi, state } = unlocked();
  expect(startInterface(kernel, tdi, 0)).toBe(false);
  const first = lockInterface(kernel, tdi);
  stopInterface(kernel, tdi);
  const second = lockInterface(kernel, tdi);
  expect(second).not.toBe(first);
  expect(startInterface(kernel, tdi, first)).toBe(false);
  expect(startInterface(kernel, tdi, second)).toBe(true);
  expect(lockInterface(kernel, tdi)).toBe(0);
  expect(state()).toBe(TdiState.RUN);
});

test.each([Register.BAR, Register.RESET, Register.BUS_MASTER])('register %i may change while it is unlocked; a locked or running interface ends in ERROR', (register) => {
  const { kernel, tdi, state } = unlocked();
  changeConfiguration(kernel, tdi, register);
  expect(state()).toBe(TdiState.UNLOCKED);
  lockInterface(kernel, tdi);
  changeConfiguration(kernel, tdi, register);
  expect(state()).toBe(TdiState.ERROR);
  stopInterface(kernel, tdi);
  startInterface(kernel, tdi, lockInterface(kernel, tdi));
  changeConfiguration(kernel, tdi, register);
  expect(state()).toBe(TdiState.ERROR);
});

test('out of ERROR there is one way, and bus master may be set under lock, not cleared', () => {
  const { kernel, tdi, state } = unlocked();
  setBusMaster(kernel, tdi, false);
  const nonce = lockInterface(kernel, tdi);
  startInterface(kernel, tdi, nonce);
  setBusMaster(kernel, tdi, true);
  expect(state()).toBe(TdiState.RUN);
  setBusMaster(kernel, tdi, false);
  expect(state()).toBe(TdiState.ERROR);
  expect([lockInterface(kernel, tdi), startInterface(kernel, tdi, nonce)]).toEqual([0, false]);
  stopInterface(kernel, tdi);
  expect(state()).toBe(TdiState.UNLOCKED);
});
