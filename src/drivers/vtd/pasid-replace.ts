/**
 * A live PASID entry moves to another domain by a policy of choice (`entry-stages.ts`): 7.2 breaks before it makes, which is what `attach.ts`
 * does; copying over a live entry is what it did before (CVE-2026-45945).
 */
import { NULL, type Ref } from '#hostmem/object';
import { TableKind } from '../../hardware/events.ts';
import * as entry from '../../hardware/vtd/scalable-entry.ts';
import { IommuDomain } from '../domain.ts';
import { IommuDevice, type AttachError } from '../driver.ts';
import { stagesOf, type EntryValue, type WritePolicy } from '../entry-stages.ts';
import { EntryWritten } from '../events.ts';
import { attachPaging, isCompatible } from './attach.ts';
import { isFlushedByPasid, pagingEntry, presentPasid, readPasid, requesterOf, ridPasid, writePasidWord } from './pasid-entry.ts';
import { VtdUnitState } from './unit-state.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** As `attachPaging`, but a device whose entry is present goes from domain to domain by the policy, without being blocked first. */
export function replacePaging(vtd: Vtd, device: Ref<'IommuDevice'>, domain: Ref<'IommuDomain'>, policy: WritePolicy): 0 | AttachError {
  const kernel = vtd.kernel;
  const unit = vtd.unit(IommuDevice.unit.peek(kernel, device));
  const old = IommuDevice.domain.peek(kernel, device);
  const isLive = unit.scalable && old !== NULL && presentPasid(vtd, device, ridPasid) !== 0;
  if (!isLive || !isCompatible(vtd, unit, domain) || IommuDomain.pageRequests.peek(kernel, domain) !== 0) return attachPaging(vtd, device, domain);
  const domainId = vtd.operations.joinDomain(vtd, device, unit, domain);
  if (domainId <= 0) return domainId === 0 ? 'ENOSPC' : 'ENOMEM';
  IommuDevice.domain.poke(kernel, device, domain);
  writeStages(vtd, unit, device, pagingEntry(vtd, domain, domainId), policy);
  vtd.operations.leaveDomain(vtd, device, unit, old);
  return 0;
}

function writeStages(vtd: Vtd, unit: VtdUnit, device: Ref<'IommuDevice'>, target: EntryValue, policy: WritePolicy): void {
  const at = presentPasid(vtd, device, ridPasid);
  const old = readPasid(vtd, at);
  for (const stage of stagesOf(policy, old, target, usedBits)) {
    VtdUnitState.contextLock.acquire(vtd.kernel, unit.state);
    EntryWritten.emit(vtd.kernel, TableKind.PASID, requesterOf(vtd, device), ridPasid, ...stage);
    for (let word = 0; word < stage.length; word++) writePasidWord(vtd, at, word, stage[word]!);
    VtdUnitState.contextLock.release(vtd.kernel, unit.state);
    vtd.operations.flushPasid(vtd, unit, device, entry.domainIdOf(old[1]), ridPasid, isFlushedByPasid(old[0]));
  }
}

/** What a unit looks at: of an entry that is not present the present bit alone, word 2 where there is a first stage. */
function usedBits([word0]: EntryValue): EntryValue {
  if ((word0 & entry.present) === 0) return [entry.present, 0, 0];
  return [-1, -1, entry.hasFirstStage(word0) ? -1 : 0];
}
