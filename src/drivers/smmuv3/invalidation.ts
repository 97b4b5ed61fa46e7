/**
 * Invalidation of what units cache of a domain (the kernel's `arm_smmu_domain_inv_range`): by ASID for a stage 1, by VMID for a stage 2.
 *
 * Whom to tell is a list that attaches replace as a whole. It has to be read *behind* the change of the tables: who attaches puts itself on the list
 * and lets hardware walk only then, so that a unit that is not on it cannot have read what was there before. The kernel has a full barrier
 * between the two.
 */
import { NULL, type Ref } from '#hostmem/object';
import { highOfPage, lowOfPage, pageNumber } from '#hostmem/u64';
import * as commands from '../../hardware/smmuv3/commands.ts';
import type { CommandSubmitter } from '../command-submitter.ts';
import { CacheTag, IommuDomain } from '../domain.ts';
import { FlushCalled, FlushReturned } from '../events.ts';
import type { Smmu } from './smmu.ts';

/** Per-page invalidations below this, the whole address space from here on (`max_tlbi_ops`: as many as a table has entries). */
const mostPages = 512;

/** The units to tell, as they were when the list was read. A thread's own. */
export class Invalidations {
  domain: Ref<'IommuDomain'> = NULL;
  units: readonly Ref<'IommuUnit'>[] = [];
}

/** Reads the list of a domain, as it is at one moment. */
export function readInvalidations(smmu: Smmu, domain: Ref<'IommuDomain'>): void {
  const { kernel } = smmu;
  const units: Ref<'IommuUnit'>[] = [];
  IommuDomain.tagLock.acquire(kernel, domain);
  for (let tag = IommuDomain.firstTag.read(kernel, domain); tag !== NULL; tag = CacheTag.next.read(kernel, tag)) units.push(CacheTag.unit.peek(kernel, tag));
  IommuDomain.tagLock.release(kernel, domain);
  smmu.invalidations.domain = domain;
  smmu.invalidations.units = units;
}

/** Nothing has to be done before leaves are cleared. */
export function beginUnmap(): void {}

/** After leaves were cleared: no cache has them, and DMA that may have used them has ended. */
export function flushRange(smmu: Smmu, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
  readInvalidations(smmu, domain);
  invalidateUnits(smmu, domain, iovaHigh, iovaLow, pages, leafOnly);
}

/** Tells the units of the list that was read last. */
export function invalidateUnits(smmu: Smmu, domain: Ref<'IommuDomain'>, iovaHigh: number, iovaLow: number, pages: number, leafOnly: boolean): void {
  const { kernel } = smmu;
  const root = IommuDomain.root.peek(kernel, domain);
  const first = pageNumber(iovaHigh, iovaLow);
  const told = pages < 2 ** 32 ? pages : 0;
  FlushCalled.emit(kernel, root, iovaHigh, iovaLow, told, leafOnly ? 1 : 0);
  for (const unit of smmu.invalidations.units) {
    const { submitter } = smmu.unit(unit);
    if (pages >= mostPages) submitter.push(spaceCommand(smmu, domain));
    for (let page = first; pages < mostPages && page < first + pages; page++) {
      if (submitter.isFull) submitter.submit();
      submitter.push(pageCommand(smmu, domain, page, leafOnly));
    }
    if (pages < mostPages && smmu.isSecondStage(domain)) smmu.operations.forgetStages1(smmu, submitter, domain);
    submitter.submit();
  }
  FlushReturned.emit(kernel, root, iovaHigh, iovaLow, told, leafOnly ? 1 : 0);
}

/** What stages 1 on a nest parent have translated goes only as a whole: nobody knows by which addresses. */
export function forgetStages1({ kernel }: Smmu, submitter: CommandSubmitter, parent: Ref<'IommuDomain'>): void {
  submitter.push(commands.invalidateStages1(IommuDomain.driverData.peek(kernel, parent)));
}

/** The command that drops all of a domain. */
export function spaceCommand(smmu: Smmu, domain: Ref<'IommuDomain'>): commands.Command {
  const number = IommuDomain.driverData.peek(smmu.kernel, domain);
  return smmu.isSecondStage(domain) ? commands.invalidateVmid(number) : commands.invalidateAsid(number);
}

function pageCommand(smmu: Smmu, domain: Ref<'IommuDomain'>, page: number, leafOnly: boolean): commands.Command {
  const number = IommuDomain.driverData.peek(smmu.kernel, domain);
  const command = smmu.isSecondStage(domain) ? commands.invalidateIpa : commands.invalidateVa;
  return command(number, highOfPage(page), lowOfPage(page), leafOnly);
}
