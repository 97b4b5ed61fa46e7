/** Numbers that a driver gives to domains (domain ids, address spaces, VMIDs): a bitmap under a leaf lock. 0 is never given. */
import { lockLeaf, peek, unlockLeaf } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, u32, words } from '#hostmem/struct';

/** The specifications have 16 bits and more for them; a host here has fewer domains. */
const idCount = 1 << 12;

export const IdBitmap = object('IdBitmap', { lock: u32, taken: words(idCount / 32) });

/** Takes the lowest free number, or 0 when none is left. No point. */
export function takeId(kernel: Memory, ids: Ref<'IdBitmap'>): number {
  const lock = IdBitmap.lock.address(kernel, ids);
  lockLeaf(kernel, lock);
  let id = 1;
  while (id < idCount && isIdTaken(kernel, ids, id)) id++;
  if (id < idCount) flip(kernel, ids, id);
  unlockLeaf(kernel, lock);
  return id % idCount;
}

export function returnId(kernel: Memory, ids: Ref<'IdBitmap'>, id: number): void {
  const lock = IdBitmap.lock.address(kernel, ids);
  lockLeaf(kernel, lock);
  flip(kernel, ids, id);
  unlockLeaf(kernel, lock);
}

/** Whether a domain has the number. As no point. */
export const isIdTaken = (kernel: Memory, ids: Ref<'IdBitmap'>, id: number): boolean =>
  (peek(kernel, IdBitmap.taken.elementAddress(kernel, ids, id >>> 5)) & (1 << (id & 31))) !== 0;

function flip(kernel: Memory, ids: Ref<'IdBitmap'>, id: number): void {
  const word = IdBitmap.taken.get(kernel, ids, id >>> 5);
  IdBitmap.taken.set(kernel, ids, id >>> 5, word ^ (1 << (id & 31)));
}
