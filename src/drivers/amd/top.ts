/**
 * The top of a domain's tables, which grows with the IOVAs that are mapped (the kernel's `increase_top` and `amd_iommu_change_top`). A new root
 * leads to the old one by its first entry, so that who still walks from there finds what was mapped before.
 *
 * Published, then written to the entry of every device: until a unit is told, it walks from the old root, and reaches nothing that the new one
 * alone has. The map that needed it goes on only behind that.
 */
import { NULL, type Ref } from '#hostmem/object';
import { firstLevels } from '../../hardware/amd/unit.ts';
import { PciFunction } from '../../hardware/function.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import { CacheTag, IommuDomain } from '../domain.ts';
import { IommuDevice } from '../driver.ts';
import type { Amd } from './amd.ts';
import { pagingEntry, writeEntries } from './device-table.ts';
import { AmdDomain, packTop, topLevels, topRoot, type Top } from './unit-state.ts';

const mostLevels = 6;

/** How many levels an IOVA needs: 39 bits have three, and each further one nine more. */
export function levelsFor(iovaHigh: number): number {
  let levels = firstLevels;
  while (levels < mostLevels && iovaHigh >>> (9 * levels - 20) !== 0) levels++;
  return levels;
}

export const amdDomainOf = ({ kernel }: Amd, domain: Ref<'IommuDomain'>): Ref<'AmdDomain'> => IommuDomain.driverData.peek(kernel, domain) as Ref<'AmdDomain'>;

/** Root and levels, as they are at one moment. */
export function readTop(amd: Amd, domain: Ref<'IommuDomain'>): Top {
  const top = AmdDomain.top.load(amd.kernel, amdDomainOf(amd, domain));
  return { root: topRoot(top), levels: topLevels(top) };
}

/** Makes the tables as high as asked, if they are not. False without memory. */
export function raiseTop(amd: Amd, domain: Ref<'IommuDomain'>, levels: number): boolean {
  const { kernel } = amd;
  const own = amdDomainOf(amd, domain);
  IommuDomain.tagLock.acquire(kernel, domain);
  let top = AmdDomain.top.load(kernel, own);
  let raised: number = -1;
  while (topLevels(top) < levels && raised !== 0) {
    raised = amd.tables(topLevels(top) + 1).raise(topRoot(top));
    if (raised !== 0) top = packTop({ root: raised as Top['root'], levels: topLevels(top) + 1 });
  }
  AmdDomain.top.store(kernel, own, top);
  if (raised > 0) changeTop(amd, domain, top);
  IommuDomain.tagLock.release(kernel, domain);
  return raised !== 0;
}

/** Tells every unit of every device on the domain. The caller holds `tagLock`. */
function changeTop(amd: Amd, domain: Ref<'IommuDomain'>, top: number): void {
  const { kernel } = amd;
  const domainId = AmdDomain.domainId.peek(kernel, amdDomainOf(amd, domain));
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) {
    const unit = amd.unit(CacheTag.unit.peek(kernel, tag));
    for (let at = IommuUnit.firstFunction.peek(kernel, unit.ref); at !== NULL; at = PciFunction.nextOfUnit.peek(kernel, at)) {
      const device = PciFunction.driverData.peek(kernel, at) as Ref<'IommuDevice'>;
      if (device !== NULL && IommuDevice.domain.peek(kernel, device) === domain) writeEntries(amd, unit, at, pagingEntry(top, domainId));
    }
  }
}
