/** What won in seed 000: a group is claimed as a whole, and blocked from the claim to the first attach. It is Linux 7.2 as it is. */
import { variant } from '../variant.ts';

export default variant({ mistake: null, source: 'DMA ownership, Linux 5.19 (1ea2a07a532b, 512881eacfa7); Linux 7.2.13', caughtBy: null });
