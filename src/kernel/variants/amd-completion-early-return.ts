/** The completion wait that takes "no wait is missing" for "nothing is left to wait for". */
import { completionWait } from '../../drivers/amd/commands.ts';
import { AmdUnitState } from '../../drivers/amd/unit-state.ts';
import { SubmitReturned } from '../../drivers/events.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "reads without the buffer's lock that another's wait is behind its commands, and returns without waiting for it",
  source: '1e75a8255f11 (CVE-2026-68329)',
  caughtBy: 'C3',
  amd: {
    completionWait(amd, unit) {
      if (AmdUnitState.needSync.load(amd.kernel, unit.state) !== 0) completionWait(amd, unit);
      else SubmitReturned.emit(amd.kernel, unit.number);
    },
  },
});
