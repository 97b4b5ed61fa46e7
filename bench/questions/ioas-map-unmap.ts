/**
 * IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of the same range, through the ioctl dispatcher: with no domain the areas alone, with each
 * domain page table and strict invalidation as well, with the first one pins. Tables stay from one map to the next.
 *
 * Then what several threads do together against one of them, in a steady state, at ranges of their own: of one IOAS, of an IOAS each, of a VM each (a process,
 * its iommufd, IOAS and device), of a host each: those share nothing, and make what the machine gives so many threads. With a domain of the selftest's mock
 * devices, as the kernel's own figures were taken with, or of VT-d: then all that unmap wait in the queue of one unit, or of a unit each.
 */
import { Host, type HostBuffers } from '#hostmem/host';
import { liveObjects, type Ref } from '#hostmem/object';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { MapFlag, type IoasMap, type IoasUnmap } from '#src/kernel/ioas';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { ioctl, open } from '#src/kernel/syscalls';
import type { BuiltProcess } from '#src/built-process';
import { World } from '#src/world';
import { Team } from '../team.ts';
import type { Question, Row, SampledRow } from '../question.ts';

const sizes = [1, 16, 512];
const firstIova = 0x10000000n;
/** Threads map pages as far apart as this, as those of VMs are: the frame table has four frames on a line, where Linux has a line for each `struct page`. */
const pagesApart = 16;
/** Pairs that are timed together, where several threads are at work: some hundred microseconds. */
const chunk = 50;

/** Where a thread maps. */
interface Place {
  readonly world: World;
  readonly process: Ref<'Process'>;
  readonly iommufd: number;
  readonly ioasId: number;
  readonly userVa: bigint;
  readonly iova: bigint;
}

/** What a thread is told. */
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
  const kernel = new Kernel(host, linux72, driverInForce(host, new Machine(host)));
  kernel.enter(place.process);
  return (count) => mapAndUnmap(kernel, place, 1, count);
}

/** Whether its domains are of the selftest's mock devices. */
const isMock = (world: World): boolean => world.host.driver !== 0;

/** Makes a domain of the IOAS, with a device of its own attached. */
function addDomain(world: World, vmm: BuiltProcess, iommufd: number, ioasId: number): void {
  const { kernel } = world;
  if (isMock(world)) {
    vmm.mockDevice(iommufd, ioasId);
    return;
  }
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

/** As many threads of one IOAS. */
function inOneIoas(world: World, threads: number): Place[] {
  const vmm = world.process('one');
  const all = placeIn(world, vmm, vmm.iommufd(), 1, threads * pagesApart);
  return Array.from({ length: threads }, (_, index) => ({ ...all, iova: firstIova + BigInt(index << 12), userVa: all.userVa + BigInt((index * pagesApart) << 12) }));
}

/** Of an IOAS each, of one iommufd; `behind` says which unit the device of each is behind. */
function withAnIoasEach(world: World, threads: number, behind: (index: number) => number): Place[] {
  const vmm = world.process('several');
  const iommufd = vmm.iommufd();
  const places = Array.from({ length: threads }, (_, index) => {
    world.behindUnit(behind(index));
    return placeIn(world, vmm, iommufd, 1, pagesApart);
  });
  world.behindUnit(0);
  return places;
}

/** Of an iommufd each of one process, with an IOAS. */
function withAnIommufdEach(world: World, threads: number): Place[] {
  const vmm = world.process('with files');
  return Array.from({ length: threads }, () => placeIn(world, vmm, vmm.iommufd(), 1, pagesApart));
}

/** Of a process of its own. */
function placeOfVm(world: World): Place {
  const vmm = world.process('vm');
  return placeIn(world, vmm, vmm.iommufd(), 1, pagesApart);
}

/** Where the threads are, by row. All have one domain. */
function placesOf(threads: number): Record<string, readonly Place[]> {
  const size = { vms: 16 + 2 * threads };
  const mock = new World({ ...size, iommu: 'mock' });
  const vtd = new World({ ...size, units: threads });
  const numbers = Array.from({ length: threads }, (_, index) => index);
  return {
    'mock/one-ioas': inOneIoas(mock, threads),
    'mock/an-ioas-each': withAnIoasEach(mock, threads, () => 0),
    'mock/an-iommufd-each': withAnIommufdEach(mock, threads),
    'mock/a-vm-each': numbers.map(() => placeOfVm(mock)),
    'one-ioas': inOneIoas(vtd, threads),
    'an-ioas-each': withAnIoasEach(vtd, threads, () => 0),
    'an-iommufd-each': withAnIommufdEach(vtd, threads),
    'a-unit-each': withAnIoasEach(vtd, threads, (index) => index),
    'a-vm-each': numbers.map(() => placeOfVm(vtd)),
    'a-host-each': numbers.map(() => placeOfVm(new World())),
  };
}

const sumOf = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);

/** How many times the throughput of one thread alone all of them have: of each what it does beside the others over what it does alone, in windows that take turns. */
function rowOf(name: string, places: readonly Place[], tiny: boolean): { row: SampledRow; team: Team } {
  const team = new Team(import.meta.url, places.map(jobOf));
  const windowMs = tiny ? 2 : 25;
  const row: SampledRow = {
    name: `${places.length}-threads/${name}`,
    unit: 'ratio',
    sample() {
      const alone = places.map((_, member) => team.steady(chunk, windowMs, 1, member).chunkNs[0]!);
      const { chunkNs, sum } = team.steady(chunk, windowMs);
      return { value: (places.length * sumOf(alone)) / sumOf(chunkNs), checksum: sum + liveObjects(places[0]!.world.kernel.memory) };
    },
  };
  return { row, team };
}

export default {
  asks: 'what does a pair of IOAS_MAP and IOAS_UNMAP cost, with no domain to fill, one and two, and what do threads do to each other?',
  prepare(tiny, { threads }) {
    const alone = rowsAlone(new World({ vms: 16 }), tiny);
    // To see that they run some are enough, of each driver and way: each starts threads of its own.
    const asked = Object.entries(placesOf(threads)).filter((_, index) => !tiny || index % 3 === 0);
    const together = asked.map(([name, places]) => rowOf(name, places, tiny));
    return {
      rounds: 11,
      rows: [...alone, ...together.map(({ row }) => row)],
      within(measure) {
        // Every thread compiles for itself.
        if (!tiny) for (const { team } of together) team.steady(chunk, 500);
        measure();
        for (const { team } of together) team.end();
      },
    };
  },
} satisfies Question;
