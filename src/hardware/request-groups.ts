/**
 * The numbers that a function gives its groups of page requests (PRGI of PCIe, nine bits): in turn, but none whose group still waits for its answer. They begin
 * at 1, so that 0 can say that there is none.
 *
 * A number is taken and given back under the leaf lock of the unit's queue (`page-requests.ts`).
 */
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PciFunction } from './function.ts';

/** A group's number, wherever it stands in a word. */
export const groupMask = 511;

/** How many groups of a function may wait for their answers at once (its Outstanding Page Request Allocation). */
export const credit = 64;

/** The next number that is free, taken; 0 for a function that has no credit left. */
export function takeGroup(kernel: Memory, pciFunction: Ref<'PciFunction'>): number {
  const out = PciFunction.groupsOut.peek(kernel, pciFunction);
  if (out === credit) return 0;
  let group = PciFunction.nextGroup.peek(kernel, pciFunction);
  while (isWaiting(kernel, pciFunction, group)) group = following(group);
  setWaiting(kernel, pciFunction, group, true);
  PciFunction.nextGroup.poke(kernel, pciFunction, following(group));
  PciFunction.groupsOut.poke(kernel, pciFunction, out + 1);
  return group;
}

/** The group was answered; nothing for one that was before. */
export function giveBackGroup(kernel: Memory, pciFunction: Ref<'PciFunction'>, group: number): void {
  if (!isWaiting(kernel, pciFunction, group)) return;
  setWaiting(kernel, pciFunction, group, false);
  PciFunction.groupsOut.poke(kernel, pciFunction, PciFunction.groupsOut.peek(kernel, pciFunction) - 1);
}

const following = (group: number): number => (group === groupMask ? 1 : group + 1);

const isWaiting = (kernel: Memory, pciFunction: Ref<'PciFunction'>, group: number): boolean =>
  (PciFunction.groupsWaiting.get(kernel, pciFunction, group >>> 5) & (1 << (group & 31))) !== 0;

function setWaiting(kernel: Memory, pciFunction: Ref<'PciFunction'>, group: number, on: boolean): void {
  const bit = 1 << (group & 31);
  const word = PciFunction.groupsWaiting.get(kernel, pciFunction, group >>> 5);
  PciFunction.groupsWaiting.set(kernel, pciFunction, group >>> 5, on ? word | bit : word & ~bit);
}
