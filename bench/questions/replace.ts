/**
 * VFIO_DEVICE_ATTACH_IOMMUFD_PT of a device that is attached, in a group of two: to another IOAS whose domain lives on, to another
 * IOAS whose domain has to be made and filled, and to the one it is on; and to another one while a device of another group reads. A
 * replace breaks before it makes and drains, for each member.
 */
import { liveObjects } from '#hostmem/object';
import type { Kernel } from '#src/kernel/kernel';
import { ioctl } from '#src/kernel/syscalls';
import { World } from '#src/world';
import { devicePages, work as readAll } from '../device.ts';
import { besideKernel, kernelWork, type KernelJob, type Neighbours } from '../neighbours.ts';
import { Team } from '../team.ts';
import type { Question, Row } from '../question.ts';

const iova = 0x10000000;
const mappedPages = 16;
const sameTable = 'same-table';

/** One device, and where it goes in turn. */
interface Journey {
  readonly kernel: Kernel;
  readonly fd: number;
  /** Ids of IOASes; the last one is where the device is. */
  readonly stops: readonly number[];
}

/** The sum is of the ids in force, and of objects that live on. */
function travel({ kernel, fd, stops }: Journey, rounds: number): number {
  const attach = { argsz: 16, flags: 0, ptId: 0 };
  let sum = 0;
  for (let round = 0; round < rounds; round++) {
    for (let stop = 0; stop < stops.length; stop++) {
      attach.ptId = stops[stop]!;
      ioctl(kernel, fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', attach);
      sum += attach.ptId;
    }
  }
  return sum + liveObjects(kernel.memory);
}

/** Two devices in a group, on one IOAS of two; `kept` says whether other groups keep both domains alive. */
function groupOfTwo(kept: boolean): Journey {
  const world = new World();
  const group = world.group('A', 'B');
  const vmm = world.process('vmm');
  const iommufd = vmm.iommufd();
  const va = vmm.memory(mappedPages * 4096);
  const [here, there] = [vmm.ioas(iommufd), vmm.ioas(iommufd)];
  for (const ioas of [here, there]) vmm.map(iommufd, ioas, iova, va, mappedPages * 4096);
  if (kept) for (const ioas of [here, there]) vmm.attach(vmm.bind(world.group(`holds ${ioas}`).vfio[0]!, iommufd), ioas);
  const fds = group.vfio.map((number) => vmm.bind(number, iommufd));
  for (const fd of fds) vmm.attach(fd, here);
  world.kernel.enter(vmm.ref);
  return { kernel: world.kernel, fd: fds[0]!, stops: [there, here] };
}

/** What a thread of the team is told: what it moves, or which device reads beside it. */
type Job = KernelJob | Neighbours['reader'];

export function work(job: Job): (count: number) => number {
  return 'moves' in job ? kernelWork(job) : readAll(job);
}

function besideReader(tiny: boolean, rounds: number): { row: Row; team: Team } {
  const { reader, replacer } = besideKernel(devicePages);
  const team = new Team(new URL('./replace.js', import.meta.url).href, [replacer, reader] satisfies Job[]);
  const sample = (): { value: number; checksum: number } => {
    const { seconds, made } = team.steady(rounds * 2, tiny ? 5 : 100);
    return { value: (seconds * 1e9) / made[0]!, checksum: rounds };
  };
  return { row: { name: 'beside-reader', unit: 'op/s', against: sameTable, sample }, team };
}

export default {
  asks: 'what does it cost to move a group of two to another table?',
  prepare(tiny) {
    const rounds = tiny ? 2 : 32;
    const kept = groupOfTwo(true);
    const fresh = groupOfTwo(false);
    const still = { ...kept, stops: kept.stops.toReversed().slice(0, 1) };
    const beside = besideReader(tiny, rounds);
    const row = (name: string, journey: Journey): Row => ({
      name, unit: 'op/s', operations: rounds * journey.stops.length, against: sameTable, call: () => travel(journey, rounds),
    });
    return {
      rows: [
        { name: sameTable, unit: 'op/s', operations: rounds, call: () => travel(still, rounds) },
        row('existing-table', kept), row(`fresh-table-of-${mappedPages}-pages`, fresh), beside.row,
      ],
      within(measure) {
        measure();
        beside.team.end();
      },
    };
  },
} satisfies Question;
