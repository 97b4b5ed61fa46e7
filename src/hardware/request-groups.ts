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

/** The next number that is free, taken; 0 when every group waits. */
export function takeGroup(kernel: Memory, pciFunction: Ref<'PciFunction'>): number {
  let group = PciFunction.nextGroup.peek(kernel, pciFunction);
  for (let tries = 0; tries < groupMask; tries++, group = following(group)) {
    if (isWaiting(kernel, pciFunction, group)) continue;
    setWaiting(kernel, pciFunction, group, true);
    PciFunction.nextGroup.poke(kernel, pciFunction, following(group));
    return group;
  }
  return 0;
}

/** The group was answered. */
export function giveBackGroup(kernel: Memory, pciFunction: Ref<'PciFunction'>, group: number): void {
  setWaiting(kernel, pciFunction, group, false);
}

const following = (group: number): number => (group === groupMask ? 1 : group + 1);

const isWaiting = (kernel: Memory, pciFunction: Ref<'PciFunction'>, group: number): boolean =>
  (PciFunction.groupsWaiting.get(kernel, pciFunction, group >>> 5) & (1 << (group & 31))) !== 0;

function setWaiting(kernel: Memory, pciFunction: Ref<'PciFunction'>, group: number, on: boolean): void {
  const bit = 1 << (group & 31);
  const word = PciFunction.groupsWaiting.get(kernel, pciFunction, group >>> 5);
  PciFunction.groupsWaiting.set(kernel, pciFunction, group >>> 5, on ? word | bit : word & ~bit);
}
