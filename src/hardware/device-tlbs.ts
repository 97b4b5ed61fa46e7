/**
 * The device TLBs behind a unit as its queue sees them (SEMANTICS e): to whom an invalidation request can be sent, whose answers are awaited, and who does not answer.
 */
import type { Host } from '#hostmem/host';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { AtcInvalidation, forgetRequest, functionWithAtc, isGone, isPending, pendingFunction, sendInvalidation } from './atc.ts';
import { PciFunction } from './function.ts';
import { IommuUnit } from './unit.ts';
import type { UnitFunctions } from './unit-functions.ts';

export class DeviceTlbs {
  readonly #host: Host;
  readonly #kernel: Memory;
  readonly #unit: Ref<'IommuUnit'>;
  readonly #functions: UnitFunctions;
  /** Helped along in a free run: those of the functions from `#newest` on, the latest that was added. */
  #atcs: AtcInvalidation[] = [];
  #newest: Ref<'PciFunction'> = NULL;

  constructor(host: Host, unit: Ref<'IommuUnit'>, functions: UnitFunctions) {
    this.#host = host;
    this.#kernel = host.kernel;
    this.#unit = unit;
    this.#functions = functions;
  }

  /** Whether a request to a requester can go out: who has not taken the one before has room for no other, and who is gone takes none. */
  canSend(sourceId: number): boolean {
    const target = functionWithAtc(this.#kernel, this.#unit, sourceId);
    return target === NULL || !isPending(this.#kernel, target) || isGone(this.#kernel, target);
  }

  /** A requester without an ATC is none that could answer: there is nothing to wait for. The rest as `sendInvalidation`. */
  send(sourceId: number, pasid: number, addressHigh: number, addressLow: number, order: number): void {
    const target = functionWithAtc(this.#kernel, this.#unit, sourceId);
    if (target !== NULL) sendInvalidation(this.#kernel, target, pasid, addressHigh, addressLow, order);
  }

  /** Whether anybody has not answered yet. */
  anyAwaited(): boolean {
    return this.#functions.anyPending();
  }

  /** Whether all that are there have answered: who is awaited now never will. */
  haveAnswered(): boolean {
    return !this.#functions.anyPending() || pendingFunction(this.#kernel, this.#unit, false) === NULL;
  }

  /** Virtual time: one that is gone is waited for no longer. Its requester id; -1 where there is none, because it came back and may yet answer. */
  giveUp(): number {
    const mute = pendingFunction(this.#kernel, this.#unit, true);
    if (mute === NULL) return -1;
    forgetRequest(this.#kernel, mute);
    return PciFunction.rid.peek(this.#kernel, mute);
  }

  /** Free runs: everybody who can answers. */
  help(): void {
    this.#findAtcs();
    for (const one of this.#atcs) if (one.ready()) one.step();
  }

  #findAtcs(): void {
    const kernel = this.#kernel;
    const newest = IommuUnit.firstFunction.peek(kernel, this.#unit);
    if (newest === this.#newest) return;
    this.#newest = newest;
    this.#atcs = [];
    for (let at = newest; at !== NULL; at = PciFunction.nextOfUnit.peek(kernel, at))
      if (PciFunction.atc.peek(kernel, at) !== NULL) this.#atcs.push(new AtcInvalidation(this.#host, at));
  }
}
