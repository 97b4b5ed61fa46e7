/**
 * A driver of the kernel asks for another IOAS for a function that it never attached, while the VMM has a sibling attached and moves it. The group must
 * not move: nobody has looked whether this function's reserved regions are free there, and its DETACH would be one too many.
 */
import { replaceWithoutAttach } from '../actors/driver-calls.ts';
import { scenario } from '../scenario.ts';

const src = 0x1000_0000;
const tags = [0x1111, 0x2222, 0x3333] as const;

export default scenario({
  title: 'a function is replaced that never attached, while its sibling is',
  seed: '002',
  race: { number: 1, buggy: 'replace-unattached-member' },
  variants: [],
  holds: ['D4', 'D6', 'G1', 'G2', 'G5', 'O1'],

  world(w) {
    const vmm = w.process('vmm');
    const iommufd = vmm.iommufd();
    const [first, second, third] = vmm.taggedIoases(iommufd, src, tags);
    const [a, b] = vmm.boundAll(w.group('A', 'B').vfio, iommufd);
    vmm.attach(a.fd, first);
    return { iommufd, first, second, third, attached: a.fd, unattached: b.deviceId };
  },

  actors: ({ vm, device }) => ({
    vmm: vm('vmm', (thread, { attached, first, second }) => {
      for (const ioas of [second, first]) thread.expect('a replace', thread.attach(attached, ioas));
    }),

    driver: vm('vmm', (thread, { iommufd, unattached, third }) => {
      thread.expect('a replace of what never attached', replaceWithoutAttach(thread, iommufd, unattached, third), 'EINVAL');
    }),

    A: device('A', (dev) => dev.readTag(src, tags)),
  }),
});
