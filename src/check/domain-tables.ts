/** The page tables behind domains, for oracles: what they map, whichever driver made them, read as no point. */
import firstStage from '#hostmem/formats/vtd-first-stage';
import secondStage from '#hostmem/formats/vtd-second-stage';
import type { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { PageTable, WalkFault, WalkResult } from '#hostmem/page-table';
import { IommuDomain } from '../drivers/domain.ts';
import { formatId } from '../drivers/driver.ts';
import { minorPageBits, mockFormat } from '../drivers/mock/format.ts';

const formats = [...firstStage, ...secondStage, mockFormat];
const pagesPerHigh = 0x10_0000;

export class DomainTables {
  readonly #host: Host;
  readonly #tables = new Map<number, PageTable>();
  readonly #found = new WalkResult();

  constructor(host: Host) {
    this.#host = host;
    for (const format of formats) this.#tables.set(formatId(format), new PageTable(host.ram, host.frames, format));
  }

  /** Bytes of its smallest leaf: the mock unit's walker counts halves of 4 KiB. */
  leafBytes(domain: Ref<'IommuDomain'>): number {
    return this.#isMock(domain) ? 1 << minorPageBits : 4096;
  }

  /** The host address behind leaf number `leaf` of the IOVA space; -1 where nothing is mapped. */
  find(domain: Ref<'IommuDomain'>, leaf: number): number {
    const found = this.#found;
    const root = IommuDomain.root.peek(this.#host.kernel, domain);
    const fault = this.#tableOf(domain).translate(root, Math.floor(leaf / pagesPerHigh) | 0, (leaf % pagesPerHigh) << 12, found);
    return fault === WalkFault.NONE ? found.frame * this.leafBytes(domain) : -1;
  }

  /** How many of its smallest leaves the domain maps. */
  count(domain: Ref<'IommuDomain'>): number {
    return this.#tableOf(domain).leafPages(IommuDomain.root.peek(this.#host.kernel, domain));
  }

  #isMock(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.format.peek(this.#host.kernel, domain) === formatId(mockFormat);
  }

  #tableOf(domain: Ref<'IommuDomain'>): PageTable {
    return this.#tables.get(IommuDomain.format.peek(this.#host.kernel, domain))!;
  }
}
