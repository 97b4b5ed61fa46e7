/** The page tables behind domains, for oracles: what they map, whichever driver made them, read as no point. */
import amdV1 from '#hostmem/formats/amd-v1';
import riscv from '#hostmem/formats/riscv';
import smmuStage1 from '#hostmem/formats/smmu-stage-1';
import smmuStage2 from '#hostmem/formats/smmu-stage-2';
import firstStage from '#hostmem/formats/vtd-first-stage';
import secondStage from '#hostmem/formats/vtd-second-stage';
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageTable } from '#hostmem/page-table';
import { WalkFault, WalkResult } from '#hostmem/page-walk';
import { AmdDomain, topLevels, topRoot } from '../drivers/amd/unit-state.ts';
import { DriverKind, IommuDomain } from '../drivers/domain.ts';
import { formatId } from '../drivers/driver.ts';
import { minorPageBits, mockFormat } from '../hardware/mock/format.ts';

const formats = [...firstStage, ...secondStage, ...amdV1, ...smmuStage1, ...smmuStage2, ...riscv, mockFormat];
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
    const { tables, root } = this.#tableOf(domain);
    const fault = tables.translate(root, Math.floor(leaf / pagesPerHigh) | 0, (leaf % pagesPerHigh) << 12, found);
    return fault === WalkFault.NONE ? found.frame * this.leafBytes(domain) : -1;
  }

  /** How many of its smallest leaves the domain maps. */
  count(domain: Ref<'IommuDomain'>): number {
    const { tables, root } = this.#tableOf(domain);
    return tables.leafPages(root);
  }

  #isMock(domain: Ref<'IommuDomain'>): boolean {
    return IommuDomain.format.peek(this.#host.kernel, domain) === formatId(mockFormat);
  }

  /** AMD's tables grow: their top is where the driver keeps it. */
  #tableOf(domain: Ref<'IommuDomain'>): { tables: PageTable; root: Frame } {
    const { kernel } = this.#host;
    if (IommuDomain.driver.peek(kernel, domain) === DriverKind.AMD) {
      const top = AmdDomain.top.peek(kernel, IommuDomain.driverData.peek(kernel, domain) as Ref<'AmdDomain'>);
      return { tables: this.#tables.get(formatId(amdV1[topLevels(top) - 3]!))!, root: topRoot(top) };
    }
    return { tables: this.#tables.get(IommuDomain.format.peek(kernel, domain))!, root: IommuDomain.root.peek(kernel, domain) };
  }
}
