/** The unmap that flushes what it was asked for, and had removed more. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'gathers the range that was asked for, although a large leaf at its end went as a whole',
  source: 'ee6e69d03255 (CVE-2026-31735), as VT-d would have it',
  caughtBy: 'C2',
  vtd: {
    gather: (vtd, domain, first, asked) => vtd.gather.set(domain, first, asked, asked),
  },
});
