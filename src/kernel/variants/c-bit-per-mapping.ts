/** Forward-looking (seed 003): each mapping of the guest's vIOMMU says by its C bit whether its page is private or shared. */
import { TBitPolicy } from '../../drivers/tsm/link-tsm.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'seed 003, Jul 2024 (Kardashevskiy; forward-looking, nothing of it is in 7.2)',
  caughtBy: null,
  confidential: { policy: () => TBitPolicy.C_BIT, mayFlip: () => true },
});
