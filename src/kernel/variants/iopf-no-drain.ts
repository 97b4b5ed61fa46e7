/** A replace and a detach that do not look for page requests on their way. */
import { variant } from '../variant.ts';

export default variant({
  mistake: "leaves what lies in the hardware's queue of page requests to be handed on later, to whom the device has then",
  source: 'the drain contract of io-pgfault.c and prq.c (RACES iopf-lost-after-detach); model-derived, no report',
  caughtBy: 'F3',
  iopf: { drain: ({ memory }) => (memory.history === null ? 0 : memory.history.stamp()) },
});
