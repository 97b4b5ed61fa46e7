/** Forward-looking (seed 003): whatever its T, a request walks the guest's one table, so that an address means what it meant before the switch. */
import { TBitPolicy } from '../../drivers/tsm/link-tsm.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: null,
  source: 'seed 003, Jul 2024 (design; forward-looking, nothing of it is in 7.2)',
  caughtBy: null,
  confidential: { policy: () => TBitPolicy.ONE_TABLE, mayFlip: () => true },
});
