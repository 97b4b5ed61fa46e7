/** Seed 004: PASID tables that devices share. */
import { sharedPasidTables } from '../../drivers/vtd/shared-pasid-table.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "one PASID table for the whole system: a flawed device that issues another process's PASID finds its entry",
  source: 'proposals before per-device tables, 16 May 2018 (seed 004)',
  caughtBy: 'G9',
  vtd: sharedPasidTables('system-wide'),
});
