/** The notice of an unmap that gets hold of an access before it sees that there is nobody behind it to ask. */
import { Access, holdAsked, IoptAccess, isInternal } from '../access.ts';
import { Ioas } from '../ioas.ts';
import { lockObject } from '../objects.ts';
import { NULL, type Ref } from '#hostmem/object';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'gets hold of the access of a hardware queue, passes it over because it is internal, and never lets go of it: who destroys the queue waits for that',
  source: 'iommufd_access_notify_unmap in Linux since 6.17, read in the source of later kernels and not seen on a running one',
  caughtBy: 'DEADLOCK',
  access: {
    holdAsked(kernel, ioas) {
      const memory = kernel.memory;
      const held = holdAsked(kernel, ioas);
      Ioas.iovaRwsem.acquireRead(memory, ioas);
      for (let link: Ref<'IoptAccess'> = Ioas.accesses.read(memory, ioas); link !== NULL; link = IoptAccess.next.peek(memory, link)) {
        const access = IoptAccess.access.peek(memory, link);
        if (isInternal(kernel, access)) lockObject(kernel, Access.header.peek(memory, access));
      }
      Ioas.iovaRwsem.releaseRead(memory, ioas);
      return held;
    },
  },
});
