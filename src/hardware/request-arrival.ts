/**
 * How page requests come into their unit's queue: a passive part, that takes one from the way a step. Where the queue has no room, PRS.PRO (of RISC-V pqcsr.pqof)
 * is set and the unit answers in software's place, until that has taken all and cleared the bit. Not modelled: the look at the entry of who asks (PRE, EN_PRI),
 * after which the unit would answer in software's place too.
 */
import { lockLeaf, silent, unlockLeaf } from '#hostmem/atomics';
import type { Engine } from '#hostmem/engine';
import type { Host } from '#hostmem/host';
import { label } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { answerUnderLock, entryWords, mostOnTheWay, PageRequests, requestAt, ringLength } from './page-requests.ts';
import { IommuUnit, UnitKind } from './unit.ts';

const arrivalLabel = label('PageRequests.arrive');
/** The answer after which a function asks for the translation again. */
const success = 0;

export class RequestArrival implements Engine {
  readonly name: string;
  readonly memory: Memory;
  readonly #queue: Ref<'PageRequests'>;
  readonly #tailAt: number;

  constructor({ kernel }: Host, queue: Ref<'PageRequests'>) {
    this.memory = kernel;
    this.#queue = queue;
    this.#tailAt = PageRequests.tail.address(kernel, queue);
    const unit = PageRequests.unit.peek(kernel, queue);
    const vendor = IommuUnit.kind.peek(kernel, unit) === UnitKind.RISCV ? 'riscv' : 'vtd';
    this.name = `${vendor}${IommuUnit.number.peek(kernel, unit)}.requests`;
  }

  ready(): boolean {
    return isAnyOnTheWay(this.memory, this.#queue);
  }

  at(): number {
    return this.#tailAt;
  }

  label(): number {
    return arrivalLabel;
  }

  step(): void {
    takeIn(this.memory, this.#queue);
  }
}

function isAnyOnTheWay(kernel: Memory, queue: Ref<'PageRequests'>): boolean {
  return silent.load(kernel, PageRequests.asked.address(kernel, queue)) !== silent.load(kernel, PageRequests.arrived.address(kernel, queue));
}

/** Free runs: all that is on its way comes in. */
export function takeInAll(kernel: Memory, queue: Ref<'PageRequests'>): void {
  while (isAnyOnTheWay(kernel, queue)) takeIn(kernel, queue);
}

/** The oldest one on its way, if there still is one, comes in. */
function takeIn(kernel: Memory, queue: Ref<'PageRequests'>): void {
  const lock = PageRequests.lock.address(kernel, queue);
  lockLeaf(kernel, lock);
  const arrived = PageRequests.arrived.peek(kernel, queue);
  if (arrived !== PageRequests.asked.peek(kernel, queue)) {
    if (PageRequests.tail.peek(kernel, queue) - PageRequests.head.peek(kernel, queue) === ringLength) PageRequests.overflowed.poke(kernel, queue, 1);
    if (PageRequests.overflowed.peek(kernel, queue) === 0) append(kernel, queue, arrived % mostOnTheWay);
    else refuse(kernel, queue, arrived % mostOnTheWay);
    PageRequests.arrived.poke(kernel, queue, arrived + 1);
  }
  unlockLeaf(kernel, lock);
}

function append(kernel: Memory, queue: Ref<'PageRequests'>, slot: number): void {
  const tail = PageRequests.tail.peek(kernel, queue);
  for (let word = 0; word < entryWords; word++) PageRequests.entries.set(kernel, queue, (tail % ringLength) * entryWords + word, PageRequests.onTheWay.get(kernel, queue, slot * entryWords + word));
  PageRequests.tail.poke(kernel, queue, tail + 1);
}

/** There is no room: the unit answers in software's place. */
function refuse(kernel: Memory, queue: Ref<'PageRequests'>, slot: number): void {
  const { rid, group } = requestAt(kernel, queue, PageRequests.onTheWay, slot);
  answerUnderLock(kernel, PageRequests.unit.peek(kernel, queue), rid, group, success);
}
