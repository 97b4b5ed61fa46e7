/** IOASes and what is mapped in them: IOAS_ALLOC, MAP, UNMAP, COPY, ranges, the type 1 commands. */
import { errnoOf } from '../../kernel/errno.ts';
import { fixed, page, type Caller } from '../caller.ts';
import { topic } from '../sequence.ts';

const first = 0x1000_0000;

/** Two IOASes, of which the first has a domain and a mapping of two pages. */
function stage(caller: Caller): { fd: number; filled: number; bare: number; va: bigint } {
  const fd = caller.open();
  const [filled, bare] = [caller.ioas(fd), caller.ioas(fd)];
  const va = caller.memory(8 * page);
  caller.must(caller.attach(caller.bind(caller.group('A').vfio[0]!, fd).fd, filled));
  for (const ioas of [filled, bare]) caller.must(caller.map(fd, ioas, first, va, 2 * page));
  return { fd, filled, bare, va };
}

/** The container of type 1, over the IOAS with a domain. */
function container(caller: Caller): ReturnType<typeof stage> {
  const made = stage(caller);
  caller.must(caller.ioctl(made.fd, 'IOMMU_VFIO_IOAS', { op: 1, ioasId: made.filled }));
  return made;
}

/** A container of type 1 v1, which splits mappings: one of four pages, in a domain. */
function splittable(caller: Caller): { fd: number } {
  const fd = caller.open();
  const ioas = caller.ioas(fd);
  caller.must(caller.ioctl(fd, 'IOMMU_VFIO_IOAS', { op: 1, ioasId: ioas }));
  caller.must(caller.ioctl(fd, 'VFIO_SET_IOMMU', { arg: 1 }));
  caller.must(caller.attach(caller.bind(caller.group('A').vfio[0]!, fd).fd, ioas));
  caller.must(caller.map(fd, ioas, first, caller.memory(4 * page), 4 * page));
  return { fd };
}

export default topic('vtd-legacy', {
  'open of /dev/iommu': (caller) => () => errnoOf(() => caller.open()),
  'IOAS_ALLOC': (caller) => {
    const fd = caller.open();
    return () => caller.ioctl(fd, 'IOMMU_IOAS_ALLOC', { flags: 0, outIoasId: 0 });
  },
  'IOAS_ALLOC of the 65th object': (caller) => {
    const fd = caller.open();
    for (let i = 0; i < 64; i++) caller.ioas(fd);
    return () => caller.ioctl(fd, 'IOMMU_IOAS_ALLOC', { flags: 0, outIoasId: 0 });
  },
  'MAP with a domain': {
    answersLast: true,
    begin(caller) {
      const { fd, filled, va } = stage(caller);
      return () => caller.map(fd, filled, first + 4 * page, va, 3 * page);
    },
  },
  'MAP that needs tables of its own': {
    answersLast: true,
    begin(caller) {
      const { fd, filled, va } = stage(caller);
      return () => caller.map(fd, filled, 0x40_0000_0000 - page, va, 3 * page);
    },
  },
  'MAP without a domain': {
    answersLast: true,
    begin(caller) {
      const { fd, bare, va } = stage(caller);
      return () => caller.map(fd, bare, first + 4 * page, va, 3 * page);
    },
  },
  'MAP of the kernel\'s choice': {
    answersLast: true,
    begin(caller) {
      const { fd, filled, va } = stage(caller);
      return () => caller.map(fd, filled, 0, va, page, fixed & ~1);
    },
  },
  'MAP with two domains': {
    answersLast: true,
    begin(caller) {
      const { fd, filled, va } = stage(caller);
      const { devId } = caller.bind(caller.group('B').vfio[0]!, fd);
      caller.hwptAlloc(fd, { devId, ptId: filled });
      return () => caller.map(fd, filled, first + 4 * page, va, 3 * page);
    },
  },
  'UNMAP': {
    answersLast: true,
    begin(caller) {
      const { fd, filled } = stage(caller);
      return () => caller.ioctl(fd, 'IOMMU_IOAS_UNMAP', { ioasId: filled, iova: BigInt(first), length: BigInt(2 * page) });
    },
  },
  'COPY of two mappings': {
    answersLast: true,
    begin(caller) {
      const { fd, filled, bare, va } = stage(caller);
      caller.must(caller.map(fd, bare, first + 2 * page, va, page));
      const arg = { flags: fixed, dstIoasId: filled, srcIoasId: bare, length: BigInt(3 * page), dstIova: BigInt(first + 8 * page), srcIova: BigInt(first) };
      return () => caller.ioctl(fd, 'IOMMU_IOAS_COPY', { ...arg });
    },
  },
  'COPY of part of a mapping within one IOAS': {
    answersLast: true,
    begin(caller) {
      const { fd, filled } = stage(caller);
      const arg = { flags: 6, dstIoasId: filled, srcIoasId: filled, length: BigInt(page), dstIova: 0n, srcIova: BigInt(first + page) };
      return () => caller.ioctl(fd, 'IOMMU_IOAS_COPY', { ...arg });
    },
  },
  'ALLOW_IOVAS in place of others': (caller) => {
    const { fd, filled } = stage(caller);
    caller.must(caller.ioctl(fd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId: filled, ranges: [[0x1000n, 0xffffn]] }));
    return () => caller.ioctl(fd, 'IOMMU_IOAS_ALLOW_IOVAS', { ioasId: filled, ranges: [[0x1000n, 0xffffn], [0x20000n, 0x2ffffn], [0x40000n, 0x4ffffn]] });
  },
  'IOVA_RANGES': (caller) => {
    const { fd, filled } = stage(caller);
    return () => caller.ioctl(fd, 'IOMMU_IOAS_IOVA_RANGES', { ioasId: filled, numIovas: 8, ranges: [], outIovaAlignment: 0n });
  },
  'MAP_DMA of type 1': (caller) => {
    const { fd, va } = container(caller);
    return () => caller.ioctl(fd, 'VFIO_IOMMU_MAP_DMA', { argsz: 32, flags: 3, vaddr: va, iova: BigInt(first + 4 * page), length: BigInt(2 * page) });
  },
  'UNMAP_DMA of type 1 at the start of a mapping': {
    answersLast: true,
    begin(caller) {
      const { fd } = splittable(caller);
      return () => caller.ioctl(fd, 'VFIO_IOMMU_UNMAP_DMA', { argsz: 24, flags: 0, iova: BigInt(first), length: BigInt(page) });
    },
  },
  'UNMAP_DMA of type 1 in the middle of a mapping': {
    answersLast: true,
    stopsHalfway: true,
    begin(caller) {
      const { fd } = splittable(caller);
      return () => caller.ioctl(fd, 'VFIO_IOMMU_UNMAP_DMA', { argsz: 24, flags: 0, iova: BigInt(first + page), length: BigInt(page) });
    },
  },
  'GET_INFO of type 1': (caller) => {
    const { fd } = container(caller);
    return () => caller.ioctl(fd, 'VFIO_IOMMU_GET_INFO', { argsz: 16, flags: 0, iovaPageSizes: 0n, capOffset: 0 });
  },
});
