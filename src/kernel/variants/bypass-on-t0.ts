/** Forward-looking (seed 003): the design that lost. T = 0 goes around the vIOMMU, T = 1 through it, and a driver stays bound across the switch. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'lets a device go to T=1 under a driver with live mappings, whose addresses went around the vIOMMU and now go through it',
  source: 'seed 003, Jul 2024 (design that was argued against; forward-looking, nothing of it is in 7.2)',
  caughtBy: 'T4',
  confidential: { mayFlip: () => true },
});
