/** A process's own memory: mmap, munmap, files in memory, fork. */
import { errnoOf } from '../../kernel/errno.ts';
import { createMemfd, truncateMemfd, mmapMemfd } from '../../kernel/memfd.ts';
import { mmap, munmap } from '../../kernel/process.ts';
import { fixed, page, type Caller } from '../caller.ts';
import { topic } from '../sequence.ts';

/** A file of three pages, and an IOAS with a domain. */
function fileStage(caller: Caller): { fd: number; ioas: number; file: number } {
  const fd = caller.open();
  const ioas = caller.ioas(fd);
  caller.must(caller.attach(caller.bind(caller.group('A').vfio[0]!, fd).fd, ioas));
  const file = createMemfd(caller.kernel, false);
  truncateMemfd(caller.kernel, file, 3 * page);
  return { fd, ioas, file };
}

export default topic('vtd-legacy', {
  'mmap': (caller) => () => errnoOf(() => mmap(caller.kernel, caller.kernel.process, 3 * page, true, null)),
  'munmap in the middle of a region': (caller) => {
    const va = caller.memory(4 * page);
    return () => errnoOf(() => munmap(caller.kernel, caller.kernel.process, va + BigInt(page), BigInt(page)));
  },
  'memfd_create': (caller) => () => errnoOf(() => createMemfd(caller.kernel, false)),
  'ftruncate': (caller) => {
    const fd = createMemfd(caller.kernel, false);
    return () => errnoOf(() => truncateMemfd(caller.kernel, fd, 3 * page));
  },
  'mmap of a file': (caller) => {
    const fd = createMemfd(caller.kernel, false);
    truncateMemfd(caller.kernel, fd, 3 * page);
    return () => errnoOf(() => mmapMemfd(caller.kernel, fd, 0, 2 * page, true, null));
  },
  'IOAS_MAP_FILE': {
    answersLast: true,
    begin(caller) {
      const { fd, ioas, file } = fileStage(caller);
      const arg = { flags: fixed, ioasId: ioas, fd: file, start: 0n, length: BigInt(2 * page), iova: 0x1000_0000n };
      return () => caller.ioctl(fd, 'IOMMU_IOAS_MAP_FILE', { ...arg });
    },
  },
  'IOAS_CHANGE_PROCESS of a mapped file': (caller) => {
    const { fd, ioas, file } = fileStage(caller);
    const arg = { flags: fixed, ioasId: ioas, fd: file, start: 0n, length: BigInt(2 * page), iova: 0x1000_0000n };
    caller.must(caller.ioctl(fd, 'IOMMU_IOAS_MAP_FILE', { ...arg }));
    return () => caller.ioctl(fd, 'IOMMU_IOAS_CHANGE_PROCESS', {});
  },
  'fork': (caller) => {
    const fd = caller.open();
    caller.ioas(fd);
    caller.memory(2 * page);
    caller.memory(page);
    return () => errnoOf(() => caller.forkAndExit());
  },
});
