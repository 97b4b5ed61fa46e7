/** The replace that copies a new PASID entry over the live one, word by word. */
import { replacePaging } from '../../drivers/vtd/pasid-replace.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'overwrites the quadwords of a present PASID entry in place, and flushes behind that',
  source: 'c3b1edea3791 (CVE-2026-45945)',
  caughtBy: 'C6',
  vtd: {
    attachPaging: (vtd, device, domain) => replacePaging(vtd, device, domain, 'copy'),
  },
});
