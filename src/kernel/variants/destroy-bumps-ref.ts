/** The DESTROY that looks its object up as every other call does: for a moment it is a user like any other. */
import { fail } from '../errno.ts';
import { destroyErased, dropAndErase, getObject, IommufdObject, Kind, waitForCalls } from '../objects.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'takes a user of the object to find out whether it has users, and an owner that must succeed in destroying it does not',
  source: '99f98a7c0d69, CVE-2023-53795',
  caughtBy: 'O3',
  objects: {
    remove(kernel, iommufd, id) {
      const found = getObject(kernel, iommufd, id, Kind.ANY);
      // Those who wait for calls to end shall not wait for this one (`iommufd_ref_to_users`).
      IommufdObject.waitCount.add(kernel.memory, found, -1);
      if (!dropAndErase(kernel, found)) fail('EBUSY', `object ${id} is in use`);
      waitForCalls(kernel, found);
      destroyErased(kernel, found);
    },
  },
});
