/**
 * What seed 000 found wrong with the kernel of its day, and 7.2 has kept: who has no driver is on the default domain. No function differs; more is
 * asked of it.
 */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'a device without driver and owner stays on its default domain, which is all of memory under iommu=pt',
  source: 'seed 000 (14 Jun 2021); Linux 7.2.13 does so before a claim and after its release',
  caughtBy: 'G10',
  judgedBy: ['G10'],
});
