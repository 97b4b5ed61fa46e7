/**
 * IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of the same range, through the ioctl dispatcher: with no domain the areas alone, with each
 * domain page table and strict invalidation as well, with the first one pins. Tables stay from one map to the next. Then one thread
 * against several, at ranges of their own: of one IOAS, of an IOAS each, of a VM each (a process, its iommufd, IOAS and device), of a host each: those
 * share nothing, and make what the machine gives so many threads.
 */
import { Host, type HostBuffers } from '#hostmem/host';
import { liveObjects, type Ref } from '#hostmem/object';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { Machine } from '#src/hardware/machine';
import { MapFlag, type IoasMap, type IoasUnmap } from '#src/kernel/ioas';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { ioctl, open } from '#src/kernel/syscalls';
import type { BuiltProcess } from '#src/built-process';
import { World } from '#src/world';
import { Team } from '../team.ts';
import type { Question, Row } from '../question.ts';

const sizes = [1, 16, 512];
const firstIova = 0x10000000n;
/** Threads map pages as far apart as this, as those of VMs are: the frame table has four frames on a line, where Linux has a line for each `struct page`. */
const pagesApart = 16;

/** Where a thread maps. */
interface Place {
  readonly world: World;
  readonly process: Ref<'Process'>;
  readonly iommufd: number;
  readonly ioasId: number;
  readonly userVa: bigint;
  readonly iova: bigint;
}

/** What a thread beside the bench's own is told. */
interface Job extends Omit<Place, 'world'> {
  readonly buffers: HostBuffers;
}

const jobOf = ({ world, ...place }: Place): Job => ({ ...place, buffers: world.host.buffers });

/** Returns how many pages went. */
function mapAndUnmap(kernel: Kernel, { iommufd, ioasId, userVa, iova }: Omit<Place, 'world'>, pages: number, count: number): number {
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
  return removed;
}

/** A thread of the team. */
export function work({ buffers, ...place }: Job): (count: number) => number {
  const host = new Host(buffers);
  const kernel = new Kernel(host, linux72, new VtdDriver(host, new Machine(host)));
  kernel.enter(place.process);
  return (count) => mapAndUnmap(kernel, place, 1, count);
}

/** Makes a domain of the IOAS, with a device of its own attached. */
function addDomain(world: World, vmm: BuiltProcess, iommufd: number, ioasId: number): void {
  const { kernel } = world;
  const [vfio] = world.group(`device of IOAS ${ioasId} of ${vmm.ref}`).vfio;
  kernel.enter(vmm.ref);
  const fd = open(kernel, `/dev/vfio/devices/vfio${vfio}`);
  const bound = { argsz: 24, flags: 0, iommufd, outDevid: 0 };
  ioctl(kernel, fd, 'VFIO_DEVICE_BIND_IOMMUFD', bound);
  const hwpt = { flags: 0, devId: bound.outDevid, ptId: ioasId, outHwptId: 0 };
  ioctl(kernel, iommufd, 'IOMMU_HWPT_ALLOC', hwpt);
  vmm.attach(fd, hwpt.outHwptId);
}

/** An IOAS with so many domains, in a process that has opened /dev/iommu, and memory of so many pages to map. */
function placeIn(world: World, vmm: BuiltProcess, iommufd: number, domains: number, pages: number): Place {
  const ioasId = vmm.ioas(iommufd);
  for (let i = 0; i < domains; i++) addDomain(world, vmm, iommufd, ioasId);
  return { world, process: vmm.ref, iommufd, ioasId, userVa: vmm.memory(pages * 4096), iova: firstIova };
}

/** One thread, by domains and pages. The sum is of pages that went, and of objects that live on: a leak changes it. */
function rowsAlone(world: World, tiny: boolean): Row[] {
  const { kernel } = world;
  const vmm = world.process('alone');
  const iommufd = vmm.iommufd();
  return ['no-domain', 'one-domain', 'two-domains'].flatMap((name, domains) => {
    const place = placeIn(world, vmm, iommufd, domains, Math.max(...sizes));
    return sizes.map((pages) => {
      // To count the objects takes some microseconds.
      const operations = tiny ? 2 : 20 * Math.ceil(32 / pages);
      const call = (): number => {
        kernel.enter(place.process);
        return mapAndUnmap(kernel, place, pages, operations) + liveObjects(kernel.memory);
      };
      return pages === 1 ? { name: `${name}/1`, operations, call } : { name: `${name}/${pages}`, operations, against: `${name}/1`, call };
    });
  });
}

/** Where the threads are, by row. All have one domain. */
function placesOf(world: World, threads: number): { readonly name: string; readonly places: readonly Place[] }[] {
  const numbers = Array.from({ length: threads }, (_, index) => index);
  const one = world.process('one');
  const shared = one.iommufd();
  const together = placeIn(world, one, shared, 1, threads * pagesApart);
  const ofThread = (index: number): Place => ({ ...together, iova: firstIova + BigInt(index << 12), userVa: together.userVa + BigInt((index * pagesApart) << 12) });
  return [
    { name: 'one-ioas', places: numbers.map(ofThread) },
    { name: 'an-ioas-each', places: numbers.map(() => placeIn(world, one, shared, 1, pagesApart)) },
    { name: 'a-vm-each', places: numbers.map(() => placeOfVm(world)) },
    { name: 'a-host-each', places: numbers.map((index) => placeOfVm(index === 0 ? world : new World())) },
  ];
}

/** Of a process of its own. */
function placeOfVm(world: World): Place {
  const vmm = world.process('vm');
  return placeIn(world, vmm, vmm.iommufd(), 1, pagesApart);
}

/** How many times the throughput of one thread several have. */
function rowsTogether(world: World, tiny: boolean, threads: number): { rows: Row[]; teams: Team[] } {
  const { kernel } = world;
  const teams: Team[] = [];
  // Beside some ten milliseconds the waking of threads is nothing.
  const each = tiny ? 2 : 4000;
  const rows = placesOf(world, threads).map(({ name, places: [first, ...others] }): Row => {
    const team = new Team(import.meta.url, others.map(jobOf));
    teams.push(team);
    const own = (count: number): number => {
      kernel.enter(first!.process);
      return mapAndUnmap(kernel, first!, 1, count);
    };
    const call = (): number => team.run(own, each) + liveObjects(kernel.memory);
    return { name: `${threads}-threads/${name}`, operations: each * threads, against: 'one-domain/1', unit: 'ratio', call };
  });
  return { rows, teams };
}

export default {
  asks: 'what does a pair of IOAS_MAP and IOAS_UNMAP cost, with no domain to fill, one and two, and what do threads do to each other?',
  prepare(tiny, { threads }) {
    const world = new World({ vms: 16 + threads });
    const alone = rowsAlone(world, tiny);
    const { rows, teams } = rowsTogether(world, tiny, threads);
    const within = (measure: () => void): void => {
      measure();
      for (const team of teams) team.end();
    };
    return { rows: [...alone, ...rows], within };
  },
} satisfies Question;
