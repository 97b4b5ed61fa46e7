/** The unpinning that goes past the start of what an access still pins. */
import { unpinSource } from '../page-source.ts';
import { unfilledEnd } from '../pages.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'ends a batch of pages to unpin where the range ends instead of where the pages of an access begin',
  source: '727c28c1cef2, 13a0d1ae7ee6, b7c822fa6b77 (CVE-2023-53630, CVE-2023-53236, CVE-2023-54060)',
  caughtBy: 'P3',
  pages: {
    unpinUnfilled(kernel, pages, frames, first, end) {
      let at = first;
      while (at < end && unfilledEnd(kernel, pages, frames, at, end) === at) at++;
      if (at < end) unpinSource(kernel, pages, frames, at, end - at);
    },
  },
});
