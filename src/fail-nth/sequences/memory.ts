/** A process's own memory: mmap, munmap, files in memory, fork. */
import { createMemfd, truncateMemfd, mmapMemfd } from '../../kernel/memfd.ts';
import { mmap, munmap } from '../../kernel/process.ts';
import { page } from '../caller.ts';
import { topic } from '../sequence.ts';

export default topic('vtd-legacy', {
  'mmap': (caller) => () => caller.attempt(() => mmap(caller.kernel, caller.kernel.process, 3 * page, true, null)),
  'munmap in the middle of a region': (caller) => {
    const va = caller.memory(4 * page);
    return () => caller.attempt(() => munmap(caller.kernel, caller.kernel.process, va + BigInt(page), BigInt(page)));
  },
  'memfd_create': (caller) => () => caller.attempt(() => createMemfd(caller.kernel, false)),
  'ftruncate': (caller) => {
    const fd = createMemfd(caller.kernel, false);
    return () => caller.attempt(() => truncateMemfd(caller.kernel, fd, 3 * page));
  },
  'mmap of a file': (caller) => {
    const fd = createMemfd(caller.kernel, false);
    truncateMemfd(caller.kernel, fd, 3 * page);
    return () => caller.attempt(() => mmapMemfd(caller.kernel, fd, 0, 2 * page, true, null));
  },
  'fork': (caller) => {
    const fd = caller.open();
    caller.ioas(fd);
    caller.memory(2 * page);
    caller.memory(page);
    return () => caller.attempt(() => caller.forkAndExit());
  },
});
