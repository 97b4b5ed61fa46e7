/**
 * IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of the same range, through the ioctl dispatcher, on one thread: with no domain the areas
 * alone, with one domain pins, page table and strict invalidation as well. Tables stay from one map to the next.
 */
import { liveObjects } from '#hostmem/object';
import { MapFlag, type IoasMap, type IoasUnmap } from '#src/kernel/ioas';
import type { Kernel } from '#src/kernel/kernel';
import { ioctl } from '#src/kernel/syscalls';
import { World } from '#src/world';
import type { Question, Row } from '../question.ts';

const iova = 0x10000000n;
const sizes = [1, 16, 512];

interface Place {
  readonly kernel: Kernel;
  readonly iommufd: number;
  readonly ioasId: number;
  readonly userVa: bigint;
}

/** The sum is of pages removed, and of objects that live on: a leak changes it. */
function mapAndUnmap({ kernel, iommufd, ioasId, userVa }: Place, pages: number, count: number): number {
  const length = BigInt(pages * 4096);
  const map: IoasMap = { flags: MapFlag.FIXED_IOVA | MapFlag.READABLE | MapFlag.WRITEABLE, ioasId, userVa, length, iova };
  const unmap: IoasUnmap = { ioasId, iova, length };
  let removed = 0;
  for (let i = 0; i < count; i++) {
    ioctl(kernel, iommufd, 'IOMMU_IOAS_MAP', map);
    unmap.length = length;
    ioctl(kernel, iommufd, 'IOMMU_IOAS_UNMAP', unmap);
    removed += Number(unmap.length) / 4096;
  }
  return removed + liveObjects(kernel.memory);
}

function rowsOf(place: Place, domains: string, callsOfOnePage: number): Row[] {
  const name = (pages: number): string => `${domains}, ${pages} ${pages === 1 ? 'page' : 'pages'}`;
  return sizes.map((pages) => {
    const operations = Math.max(1, Math.ceil(callsOfOnePage / pages));
    const row = { name: name(pages), operations, call: () => mapAndUnmap(place, pages, operations) };
    return pages === 1 ? row : { ...row, against: name(1) };
  });
}

export default {
  asks: 'what does a pair of IOAS_MAP and IOAS_UNMAP cost, without and with a domain to fill?',
  prepare(tiny) {
    const world = new World({ vms: 16 });
    const group = world.group('nic');
    const vmm = world.process('vmm');
    const iommufd = vmm.iommufd();
    const userVa = vmm.memory(Math.max(...sizes) * 4096);
    const [alone, attached] = [vmm.ioas(iommufd), vmm.ioas(iommufd)];
    vmm.attach(vmm.bind(group.vfio[0]!, iommufd), attached);
    world.kernel.enter(vmm.ref);
    const place = { kernel: world.kernel, iommufd, userVa };
    const calls = tiny ? 2 : 100;
    return { rows: [...rowsOf({ ...place, ioasId: alone }, 'no domain', calls), ...rowsOf({ ...place, ioasId: attached }, 'one domain', calls)] };
  },
} satisfies Question;
