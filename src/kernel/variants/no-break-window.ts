/** Linux 7.2 as it is, held against what a VMM may wish of its replace. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'breaks before it makes, as it is declared to: between the teardown of the old entry and the set-up of the new one a device has none, and its DMA faults',
  source: 'recorded: 11 of 240 reads and 15 of 240 writes faulted on VT-d in legacy mode, 1 of 120 reads in scalable mode, 6 of 120 on AMD-Vi (Linux 7.2.13, emulated)',
  caughtBy: 'D11',
  judgedBy: ['D11'],
});
