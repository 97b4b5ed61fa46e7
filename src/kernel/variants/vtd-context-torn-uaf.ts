/** The release that zeroes a live context entry and frees the PASID directory behind it before hardware was told. */
import { freePasidTables, requesters, zeroContext } from '../../drivers/vtd/pasid-table.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'frees the PASID directory of a released device while the context cache still leads to it',
  source: 'c1e4f1dccbe9 (CVE-2026-45944), f46452c3df7a (CVE-2026-74439)',
  caughtBy: 'D7',
  vtd: {
    tearDownPasidTable(vtd, unit, device) {
      const sources = requesters(vtd, unit, device);
      for (const sourceId of sources) zeroContext(vtd, unit, sourceId);
      freePasidTables(vtd, device);
      for (const sourceId of sources) vtd.operations.flushScalableContext(vtd, unit, device, sourceId);
    },
  },
});
