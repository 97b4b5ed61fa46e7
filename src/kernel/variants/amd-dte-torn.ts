/** The device-table entry that is written quadword by quadword. */
import { writeEntryInPieces } from '../../drivers/amd/device-table.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'writes an entry of 256 bits in stores of 64, the valid bit and the root before the domain id: a fetch in between tags translations with another number',
  source: '8b3f78733814 (update_dte256); XSA-347 (CVE-2020-27670)',
  caughtBy: 'C6',
  amd: { writeEntry: writeEntryInPieces },
});
