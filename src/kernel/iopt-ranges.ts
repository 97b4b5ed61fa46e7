/**
 * What of an IOAS's space may be mapped: reserved ranges, which have owners, and the allowed ones, which automatic placement chooses from.
 */
import type { IntervalNode } from '#hostmem/interval-tree';
import { NULL, type Ref } from '#hostmem/object';
import { allocated, fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { big, high, low, U64_MAX } from './u64.ts';

/** Reserves `[start, last]` for `owner`. EADDRINUSE when it meets an area or an allowed range, ENOMEM. Under `iovaRwsem`. */
export function reserve(kernel: Kernel, ioas: Ref<'Ioas'>, start: bigint, last: bigint, owner: number): void {
  const memory = kernel.memory;
  if (start > last) return;
  const meetsArea = Ioas.areas.first(memory, ioas, high(start), low(start), high(last), low(last)) !== NULL;
  const meetsAllowed = Ioas.allowed.first(memory, ioas, high(start), low(start), high(last), low(last)) !== NULL;
  if (meetsArea || meetsAllowed) {
    fail('EADDRINUSE', `0x${start.toString(16)}..0x${last.toString(16)} has to be reserved and is ${meetsArea ? 'mapped' : 'allowed'}`);
  }
  allocated(Ioas.reserved.insert(memory, ioas, high(start), low(start), high(last), low(last), owner as Ref));
}

/** Removes every reservation of `owner` (`__iopt_remove_reserved_iova`). Under `iovaRwsem`. */
export function unreserve(kernel: Kernel, ioas: Ref<'Ioas'>, owner: number): void {
  const memory = kernel.memory;
  let node = Ioas.reserved.first(memory, ioas, 0, 0, -1, -1);
  while (node !== NULL) {
    const next = Ioas.reserved.next(memory, ioas, node, 0, 0, -1, -1);
    if (Ioas.reserved.value(memory, node) === owner) Ioas.reserved.remove(memory, ioas, node);
    node = next;
  }
}

/** The ranges that nothing reserves, ascending, over the whole 64-bit space. Under `iovaRwsem`. */
export function iovaHoles(kernel: Kernel, ioas: Ref<'Ioas'>): [bigint, bigint][] {
  const memory = kernel.memory;
  const holes: [bigint, bigint][] = [];
  let free = 0n;
  for (let node = Ioas.reserved.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.reserved.next(memory, ioas, node, 0, 0, -1, -1)) {
    const start = big(Ioas.reserved.startHigh(memory, node), Ioas.reserved.startLow(memory, node));
    const last = big(Ioas.reserved.lastHigh(memory, node), Ioas.reserved.lastLow(memory, node));
    if (start > free) holes.push([free, start - 1n]);
    if (last + 1n > free) free = last + 1n;
  }
  if (free <= U64_MAX) holes.push([free, U64_MAX]);
  return holes;
}

/** Replaces the allowed ranges. EADDRINUSE when one meets a reserved range, ENOMEM; then the old ones stay. Under `iovaRwsem`. */
export function replaceAllowed(kernel: Kernel, ioas: Ref<'Ioas'>, ranges: readonly (readonly [bigint, bigint])[]): void {
  const memory = kernel.memory;
  for (const [start, last] of ranges) {
    if (Ioas.reserved.first(memory, ioas, high(start), low(start), high(last), low(last)) !== NULL) fail('EADDRINUSE', 'a reserved range is in the way');
  }
  const old = allowedNodes(kernel, ioas);
  const added: IntervalNode[] = [];
  for (const [start, last] of ranges) {
    const node = Ioas.allowed.insert(memory, ioas, high(start), low(start), high(last), low(last), NULL);
    if (node === NULL) removeAllowed(kernel, ioas, added);
    added.push(allocated(node));
  }
  removeAllowed(kernel, ioas, old);
}

export function allowedNodes(kernel: Kernel, ioas: Ref<'Ioas'>): IntervalNode[] {
  const memory = kernel.memory;
  const nodes: IntervalNode[] = [];
  let node = Ioas.allowed.first(memory, ioas, 0, 0, -1, -1);
  for (; node !== NULL; node = Ioas.allowed.next(memory, ioas, node, 0, 0, -1, -1)) nodes.push(node);
  return nodes;
}

function removeAllowed(kernel: Kernel, ioas: Ref<'Ioas'>, nodes: readonly IntervalNode[]): void {
  for (const node of nodes) Ioas.allowed.remove(kernel.memory, ioas, node);
}
