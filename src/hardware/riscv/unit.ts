/**
 * A RISC-V IOMMU as a device's DMA meets it: device context, process context, IOTLB, both stages, a fill, and a fault record where one is due. A function
 * with ATS meets it by translation requests, and by requests with addresses that it was given on those. T2GPA, which has it given guest addresses, is not
 * offered: a context that asks for it is misconfigured.
 *
 * The IOTLB has what a first stage alone translated, tagged with its PSCID; all else is walked each time, which is always allowed. The points of a
 * translation are: the caches of contexts, the entries of the directories and contexts, the IOTLB, each page-table entry, the fill.
 */
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { IotlbView } from '../iotlb.ts';
import type { AtsTranslator } from '../translator.ts';
import { IommuUnit } from '../unit.ts';
import { pageFault, Want } from './cause.ts';
import { DirectoryCaches } from './directory-caches.ts';
import { isRecorded } from './fault-record.ts';
import { recordFault } from './fault-queue.ts';
import { RiscvRegisters } from './registers.ts';
import { AddressType, noProcess, RiscvRequest, RiscvTranslation } from './translation.ts';

/** The IOTLB's tag has room for so many address spaces. */
const cachedPscids = 1 << 16;

export class RiscvUnit implements AtsTranslator {
  frame = 0 as Frame;
  /** `Access` bits that the last translation request was granted. */
  permissions = 0;
  root = 0 as Frame;
  hit = false;
  readonly iotlb: IotlbView;
  readonly #host: Host;
  readonly #registers: Ref<'RiscvRegisters'>;
  readonly #translation: RiscvTranslation;
  readonly #request = new RiscvRequest();

  constructor(host: Host, unit: Ref<'IommuUnit'>) {
    this.#host = host;
    this.#registers = IommuUnit.registers.peek(host.kernel, unit) as Ref<'RiscvRegisters'>;
    RiscvRegisters.check(host.kernel, this.#registers);
    this.iotlb = new IotlbView(host.kernel, IommuUnit.iotlb.peek(host.kernel, unit));
    this.#translation = new RiscvTranslation(host, this.#registers, new DirectoryCaches(host.kernel, unit));
  }

  /** `access` is one `Access` bit, which is the `Want` bit of the same name. */
  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, processId: number = noProcess): number {
    return this.#ask(AddressType.UNTRANSLATED, sourceId, iovaHigh, iovaLow, access, epoch, processId);
  }

  /** One for a write has No Write clear and asks for both. An answer that does not grant it is no fault, and no record is made of it. */
  request(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number, processId: number): number {
    const cause = this.#ask(AddressType.TRANSLATION_REQUEST, sourceId, iovaHigh, iovaLow, access | Want.READ, epoch, processId);
    return cause === 0 && (this.permissions & access) !== access ? pageFault(access) : cause;
  }

  passTranslated(sourceId: number, hpaHigh: number, hpaLow: number, access: number, processId: number): number {
    return this.#ask(AddressType.TRANSLATED, sourceId, hpaHigh, hpaLow, access, 0, processId);
  }

  #ask(type: AddressType, deviceId: number, iovaHigh: number, iovaLow: number, wanted: number, epoch: number, processId: number): number {
    const request = this.#request;
    request.type = type;
    request.deviceId = deviceId;
    request.processId = processId;
    request.iovaHigh = iovaHigh;
    request.iovaLow = iovaLow;
    request.wanted = wanted;
    const cause = this.#translate(request, epoch);
    const translation = this.#translation;
    if (cause !== 0 && isRecorded(cause, translation.control, request)) recordFault(this.#host, this.#registers, cause, request, translation.guest);
    return cause;
  }

  #translate(request: RiscvRequest, epoch: number): number {
    const translation = this.#translation;
    this.frame = 0 as Frame;
    this.root = 0 as Frame;
    this.hit = false;
    const refused = translation.find(request);
    if (refused !== 0) return refused;
    if (translation.passes) {
      this.frame = translation.frame;
      return 0;
    }
    this.root = translation.root;
    const isCached = translation.walkedFirst && !translation.walkedSecond && translation.pscid < cachedPscids;
    if (isCached && this.#isHit(request)) return 0;
    const cause = translation.walk(request);
    if (cause !== 0) return cause;
    this.frame = translation.frame;
    this.permissions = translation.permissions(request);
    const { iovaHigh, iovaLow } = request;
    if (isCached) this.iotlb.fill(translation.pscid, iovaHigh, iovaLow, this.frame, this.permissions, this.root, epoch);
    return 0;
  }

  /** A hit without permission is walked again: the tables, not a cached entry, say why a request is refused. */
  #isHit({ iovaHigh, iovaLow, wanted }: RiscvRequest): boolean {
    const iotlb = this.iotlb;
    if (!iotlb.lookup(this.#translation.pscid, iovaHigh, iovaLow) || (iotlb.permissions & wanted) !== wanted) return false;
    this.frame = iotlb.frame;
    this.permissions = iotlb.permissions;
    this.root = iotlb.root;
    this.hit = true;
    return true;
  }
}
