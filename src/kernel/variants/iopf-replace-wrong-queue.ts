/** A replace that looks for what is left in the queue of the new HWPT. */
import { answerMembers, switchMembers } from '../iommufd-attach.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "answers what the device has in the new HWPT's queue, where there is nothing, and leaves its requests in the old one's",
  source: '9D652384339C69D5+20260710122952.885325-1-peiyang_he@smail.nju.edu.cn (fixes fb21b1568ada)',
  caughtBy: 'F3',
  iopf: {
    leave(kernel, group, _old, hwpt) {
      switchMembers(kernel, group, hwpt);
      answerMembers(kernel, group, hwpt);
    },
  },
});
