/** The teardown that zeroes a PASID entry while it is present. */
import { isFlushedByPasid, presentPasid, readPasid, writePasidWord } from '../../drivers/vtd/pasid-entry.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'zeroes the quadwords of a PASID entry whose present bit is still set, the first one last',
  source: '75ed00055c05 (CVE-2026-45894)',
  caughtBy: 'C6',
  vtd: {
    tearDownPasid(vtd, unit, device, pasid) {
      const at = presentPasid(vtd, device, pasid);
      if (at === 0) return;
      const [word0, domainId] = readPasid(vtd, at);
      for (let word = 2; word >= 0; word--) writePasidWord(vtd, at, word, 0);
      vtd.operations.flushPasid(vtd, unit, device, domainId, pasid, isFlushedByPasid(word0));
    },
  },
});
