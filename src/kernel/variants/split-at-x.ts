/** Forward-looking (seed 003): no vIOMMU; below X memory is private, above X it is the same memory as shared (vTOM, the top bit of an IPA). */
import { TBitPolicy } from '../../drivers/tsm/link-tsm.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'seed 003, Jul 2024 (AMD vTOM, Arm IPA split; forward-looking, nothing of it is in 7.2)',
  caughtBy: null,
  confidential: { policy: () => TBitPolicy.SPLIT, mayFlip: () => true },
});
