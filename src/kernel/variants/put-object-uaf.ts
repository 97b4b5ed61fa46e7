/** The DESTROY that waits for nobody: what a caller lets go of last lies in the object that it frees. */
import { fail } from '../errno.ts';
import { destroyErased, eraseUnused, Iommufd, type ObjectRef } from '../objects.ts';
import { NULL } from '#hostmem/object';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'frees an object as soon as its last user has gone, while a put still has the wait count to drop',
  source: '6f9c4d8c468c, bd7a282650b8 (syzkaller: use after free with object refcounting)',
  caughtBy: 'O2',
  objects: {
    remove(kernel, iommufd, id) {
      const memory = kernel.memory;
      Iommufd.objects.acquire(memory, iommufd);
      const found = Iommufd.objects.getLocked(memory, iommufd, id) as ObjectRef;
      const erased = found !== NULL && eraseUnused(kernel, found);
      Iommufd.objects.release(memory, iommufd);
      if (found === NULL) fail('ENOENT', `there is no object with id ${id}`);
      if (!erased) fail('EBUSY', `object ${id} is in use`);
      destroyErased(kernel, found);
    },
  },
});
