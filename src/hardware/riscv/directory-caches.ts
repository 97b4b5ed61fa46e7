/**
 * The DDT cache and the PDT cache of a RISC-V unit (SEMANTICS d.1, d.4): device contexts by device id, process contexts by device id and process id, as they were
 * found to be good; the entries above them are read each time. Lines are tagged with the PSCID that they name.
 *
 * What concerns a device concerns its processes: both have one epoch, at which every look-up, fill and invalidation is announced.
 */
import { markedLabel } from '#hostmem/labels';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { TaggedCacheView } from '../tagged-cache.ts';
import { IommuUnit } from '../unit.ts';
import { Field, pscidOf } from './device-context.ts';
import { ProcessField } from './process-context.ts';

const all = -1;
const ownerMask = 0xfffff;
const deviceLabels = { lookup: markedLabel('DdtCache.lookup'), fill: markedLabel('DdtCache.fill') };
const processLabels = { lookup: markedLabel('PdtCache.lookup'), fill: markedLabel('PdtCache.fill') };
export const directoryInvalidateLabel = markedLabel('DdtCache.invalidate');

export class DirectoryCaches {
  readonly #devices: TaggedCacheView;
  readonly #processes: TaggedCacheView;

  constructor(kernel: Memory, unit: Ref<'IommuUnit'>) {
    this.#devices = new TaggedCacheView(kernel, IommuUnit.contextCache.peek(kernel, unit), deviceLabels);
    this.#processes = new TaggedCacheView(kernel, IommuUnit.pasidCache.peek(kernel, unit), processLabels, this.#devices.at);
  }

  get at(): number {
    return this.#devices.at;
  }

  /** To be taken before anything is read that the context depends on, and handed to a fill. */
  epoch(): number {
    return this.#devices.epoch();
  }

  /** On a hit the words of `context` that hardware uses are those of the line; the others are 0. */
  findDevice(deviceId: number, context: Int32Array): boolean {
    const line = this.#devices;
    if (!line.lookup(deviceId, 0, 0, 0)) return false;
    context.fill(0);
    context[Field.TC] = line.value0;
    context[Field.TA] = line.value1;
    context[Field.FSC] = line.value2;
    context[Field.FSC + 1] = line.value3;
    context[Field.IOHGATP] = line.value4;
    context[Field.IOHGATP + 1] = line.value5;
    return true;
  }

  fillDevice(deviceId: number, context: Int32Array, epoch: number): void {
    const ta = context[Field.TA]!;
    const [fsc, fscHigh, iohgatp, iohgatpHigh] = [context[Field.FSC]!, context[Field.FSC + 1]!, context[Field.IOHGATP]!, context[Field.IOHGATP + 1]!];
    this.#devices.fill(deviceId, 0, pscidOf(ta), context[Field.TC]!, ta, fsc, epoch, fscHigh, iohgatp, iohgatpHigh);
  }

  findProcess(deviceId: number, processId: number, context: Int32Array): boolean {
    const line = this.#processes;
    if (!line.lookup(deviceId, processId, 0, 0)) return false;
    context[ProcessField.TA] = line.value0;
    context[ProcessField.TA + 1] = 0;
    context[ProcessField.FSC] = line.value1;
    context[ProcessField.FSC + 1] = line.value2;
    return true;
  }

  fillProcess(deviceId: number, processId: number, context: Int32Array, epoch: number): void {
    const ta = context[ProcessField.TA]!;
    this.#processes.fill(deviceId, processId, pscidOf(ta), ta, context[ProcessField.FSC]!, context[ProcessField.FSC + 1]!, epoch);
  }

  /** IODIR.INVAL_DDT: of one device, or of all with null; with the process contexts that were found through its own. */
  invalidateDevice(deviceId: number | null): void {
    const mask = deviceId === null ? 0 : all;
    this.#devices.invalidate(deviceId ?? 0, mask, 0, 0, 0, 0);
    this.#processes.invalidate(deviceId ?? 0, mask, 0, 0, 0, 0);
  }

  /** IODIR.INVAL_PDT. */
  invalidateProcess(deviceId: number, processId: number): void {
    this.#processes.invalidate(deviceId, all, processId, ownerMask, 0, 0);
  }
}
