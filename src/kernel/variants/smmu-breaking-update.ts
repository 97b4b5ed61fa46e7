/** The stream-table entry that is always taken out of service to be changed. */
import { streamStagesBy } from '../../drivers/smmuv3/entries.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'writes every stream-table entry through V=0, also where one word decides: the driver promised otherwise',
  source: 'before 7da51af9125c',
  caughtBy: 'D5',
  smmuv3: {
    streamStages: (current, target) => streamStagesBy('break', current, target),
  },
});
