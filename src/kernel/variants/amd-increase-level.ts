/** The walk of a growing table that takes its levels and its root from different moments. */
import { amdDomainOf } from '../../drivers/amd/top.ts';
import { AmdDomain, topLevels, topRoot } from '../../drivers/amd/unit-state.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'reads the levels of a table and its root one after the other, so that an unmap looks for the page at the wrong level',
  source: '1e56310b40fd (CVE-2025-39961)',
  caughtBy: 'D1',
  amd: {
    readTop(amd, domain) {
      const own = amdDomainOf(amd, domain);
      const levels = topLevels(AmdDomain.top.load(amd.kernel, own));
      return { levels, root: topRoot(AmdDomain.top.load(amd.kernel, own)) };
    },
  },
});
