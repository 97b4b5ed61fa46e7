/** The unmap that begins again at the start of its range after each mapping that it removed. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'looks for the next mapping from the start of the range, and so removes what was mapped meanwhile where it has been already',
  source: '8602018b1f17 (CAAJpGJSR4r_ds1JOjmkqHtsBPyxu8GntoeW08Sk5RNQPmgi+tg@mail.gmail.com)',
  caughtBy: 'P2',
  iopt: { resumeUnmap: (start) => start },
});
