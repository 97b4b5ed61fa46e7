/** Pages that may be shared go back to where private ones come from. The guest's DMA API had this, long before devices had a T bit. */
import { freeGuestPage } from '../tvm.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'frees the pages of an allocation whose conversion to shared failed midway, some of which the host can see',
  source: 'b9fa16949d18, CVE-2024-35939; 27834971f616, CVE-2024-57793',
  caughtBy: 'T5',
  confidential: {
    giveUp(kernel, tvm, first, count) {
      for (let page = first; page < first + count; page++) freeGuestPage(kernel, tvm, page);
    },
  },
});
