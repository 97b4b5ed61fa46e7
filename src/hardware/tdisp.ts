/**
 * The TDISP state machine of a device interface (PCIe 6.1 chapter 11; SEMANTICS f.1), and its bus master bit.
 *
 *   CONFIG_UNLOCKED -> CONFIG_LOCKED   by the TSM (LOCK_INTERFACE_REQUEST, which answers with a nonce)
 *   CONFIG_LOCKED -> RUN               by the TSM (START_INTERFACE_REQUEST with that nonce)
 *   any -> CONFIG_UNLOCKED             by the TSM (STOP_INTERFACE_REQUEST)
 *   CONFIG_LOCKED, RUN -> ERROR        by the device, when a locked register is written: a BAR, memory enable or bus master cleared, a reset
 *
 * Only in RUN does an interface send requests with T = 1. Software of the host and of the guest writes configuration registers at any time;
 * TSM requests of one device come one after the other.
 */
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { configurationWritten, tdiMoved } from './events.ts';
import { PciFunction } from './function.ts';

export const TdiState = { UNLOCKED: 0, LOCKED: 1, RUN: 2, ERROR: 3 } as const;
export type TdiState = (typeof TdiState)[keyof typeof TdiState];

/** Who moved an interface. */
export const Mover = { TSM: 1, DEVICE: 2 } as const;

/** Registers whose change a locked interface does not forgive. */
export const Register = { BUS_MASTER: 1, BAR: 2, RESET: 3 } as const;
export type Register = (typeof Register)[keyof typeof Register];

export const Tdi = object('Tdi', {
  function: ref('PciFunction'),
  /** What the IOMMU's trusted tables say of it. */
  context: ref('TrustedContext'),
  state: u32,
  /** What LOCK has answered last; START has to say it. */
  nonce: u32,
  /** Command register, bus master enable: without it the function sends nothing. */
  busMaster: u32,
  next: ref('Tdi'),
});

/** LOCK_INTERFACE_REQUEST: returns the nonce, or 0 when the interface is not unlocked. */
export function lockInterface(kernel: Memory, tdi: Ref<'Tdi'>): number {
  const nonce = Tdi.nonce.peek(kernel, tdi) + 1;
  Tdi.nonce.poke(kernel, tdi, nonce);
  return move(kernel, tdi, TdiState.UNLOCKED, TdiState.LOCKED, Mover.TSM) ? nonce : 0;
}

/** START_INTERFACE_REQUEST. False when the interface is not locked, or the nonce is another one. */
export function startInterface(kernel: Memory, tdi: Ref<'Tdi'>, nonce: number): boolean {
  return nonce === Tdi.nonce.peek(kernel, tdi) && move(kernel, tdi, TdiState.LOCKED, TdiState.RUN, Mover.TSM);
}

/** STOP_INTERFACE_REQUEST, possible in every state. */
export function stopInterface(kernel: Memory, tdi: Ref<'Tdi'>): void {
  const from = Tdi.state.exchange(kernel, tdi, TdiState.UNLOCKED);
  if (from !== TdiState.UNLOCKED) tell(kernel, tdi, from, TdiState.UNLOCKED, Mover.TSM);
}

/** Sets or clears bus master enable. Clearing it is a change that a locked interface does not forgive. */
export function setBusMaster(kernel: Memory, tdi: Ref<'Tdi'>, on: boolean): void {
  Tdi.busMaster.store(kernel, tdi, on ? 1 : 0);
  if (!on) changeConfiguration(kernel, tdi, Register.BUS_MASTER);
}

/** A register was written, or the function was reset: a locked interface ends in ERROR. */
export function changeConfiguration(kernel: Memory, tdi: Ref<'Tdi'>, register: Register): void {
  configurationWritten.emit(kernel, ridOf(kernel, tdi), register);
  if (!move(kernel, tdi, TdiState.LOCKED, TdiState.ERROR, Mover.DEVICE)) move(kernel, tdi, TdiState.RUN, TdiState.ERROR, Mover.DEVICE);
}

function move(kernel: Memory, tdi: Ref<'Tdi'>, from: TdiState, to: TdiState, by: number): boolean {
  if (Tdi.state.compareExchange(kernel, tdi, from, to) !== from) return false;
  tell(kernel, tdi, from, to, by);
  return true;
}

const tell = (kernel: Memory, tdi: Ref<'Tdi'>, from: number, to: TdiState, by: number): void => tdiMoved.emit(kernel, ridOf(kernel, tdi), from, to, by);

const ridOf = (kernel: Memory, tdi: Ref<'Tdi'>): number => PciFunction.rid.peek(kernel, Tdi.function.peek(kernel, tdi));
