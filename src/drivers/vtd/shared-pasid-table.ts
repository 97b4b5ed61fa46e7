/**
 * Where PASID tables could have been placed instead (seed 004): one for all devices of a unit, or one for all that there are. What is shared are the tables of
 * 64 entries, but the first: scalable mode keeps requests without PASID in it, which the mode of 2018 had in the context entry.
 */
import { install64 } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PciFunction } from '../../hardware/function.ts';
import { IommuUnit } from '../../hardware/unit.ts';
import * as entry from '../../hardware/vtd/scalable-entry.ts';
import { IommuDevice } from '../driver.ts';
import type { VtdOperations } from './operations.ts';
import { presentPasid, setUpPasid } from './pasid-entry.ts';
import { addPasidTable } from './pasid-table.ts';
import { identityDomainId } from './unit-state.ts';
import type { Vtd } from './vtd.ts';

type Changed = Pick<VtdOperations, 'addPasidTable' | 'setUpPasid'>;

/** The functions that a driver with such tables has in place of its own. */
export function sharedPasidTables(place: 'per unit' | 'system-wide'): Changed {
  return {
    addPasidTable(vtd, device, pasid, table) {
      if (pasid < entry.pasidsPerTable) return addPasidTable(vtd, device, pasid, table);
      const own = IommuDevice.unit.peek(vtd.kernel, device);
      let won = false;
      for (const unit of vtd.units) if (place === 'system-wide' || unit.ref === own) won = addToUnit(vtd, unit.ref, pasid, table) || won;
      return won;
    },
    /** Whoever has the PASID on another device finds its entry made. The domain id is the one that SVA gives to every process: it has to do on all units. */
    setUpPasid(vtd, unit, device, pasid, domain, domainId) {
      if (pasid < entry.pasidsPerTable) return setUpPasid(vtd, unit, device, pasid, domain, domainId);
      return presentPasid(vtd, device, pasid) === 0 ? setUpPasid(vtd, unit, device, pasid, domain, identityDomainId) : 0;
    },
  };
}

function addToUnit(vtd: Vtd, unit: Ref<'IommuUnit'>, pasid: number, table: Frame): boolean {
  const kernel = vtd.kernel;
  let won = false;
  for (let at = IommuUnit.firstFunction.peek(kernel, unit); at !== NULL; at = PciFunction.nextOfUnit.peek(kernel, at)) {
    const directory = IommuDevice.pasidDirectory.peek(kernel, PciFunction.driverData.peek(kernel, at) as Ref<'IommuDevice'>) as Frame;
    won = install64(vtd.ram, entry.directoryEntryAt(directory, pasid), 0, hpaOf(table) | entry.present, entry.directoryLabel) === 0 || won;
  }
  return won;
}
