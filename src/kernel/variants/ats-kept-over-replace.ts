/** The replace after which a device goes on with what it was told before. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'gives a device another domain and leaves what it keeps of the old one: its own cache goes on to hit',
  source: 'SEMANTICS d.2 Q6 without its last step (model-derived, forward-looking: 7.2 has no ATS on RISC-V)',
  caughtBy: 'D4',
  riscv: { forgetKept: () => {} },
});
