/** Every move is refused during a reset, the detach too, whose caller cannot be told: it frees the domain that the group still names. */
import { IommuGroup, Move } from '../iommu-group.ts';
import { fail } from '../errno.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'a detach during a reset moves nothing, and the end of the reset attaches the domain that was freed',
  source: 'd769711fcddd (CVE-2026-53280): what it mended',
  caughtBy: 'O2',
  group: {
    admitMove(kernel, group, how) {
      const isResetting = IommuGroup.recoveryCount.read(kernel.memory, group) > 0;
      return isResetting && how === Move.MAY_FAIL ? fail('EBUSY', 'a member of the group is being reset') : !isResetting;
    },
  },
});
