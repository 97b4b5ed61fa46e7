/** The device context that is changed without a word to the unit. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'changes the context of a device and does not invalidate what the unit keeps of it: the old one stays in force',
  source: 'f5c262b54497 (CVE-2026-53057)',
  caughtBy: 'D4',
  riscv: { forgetDevice: () => {} },
});
