/**
 * Devices on threads of their own behind one unit, each in a domain of its own, which do DMA of 64 bytes: what several do together against one, and
 * how evenly. And one device alone, beside a thread that maps and unmaps in its domain through the ioctls, and beside one that moves another
 * group from table to table.
 */
import { evenness } from '#src/vm-shares';
import { attachFunctions } from '../attached.ts';
import { devicePages, work as readAll, type OnHost } from '../device.ts';
import { besideKernel, kernelWork, type KernelJob, type Neighbours } from '../neighbours.ts';
import { Team } from '../team.ts';
import type { Question, Row, Sample, SampledRow } from '../question.ts';

const sizes = [1, 2, 4, 8, 64];
/** Devices alone load little; they are many. */
const deviceModule = new URL('../device.js', import.meta.url).href;
const module = new URL('./scale.js', import.meta.url).href;

/** What a thread is told: whose DMA it does, or what it does beside one. */
type Job = OnHost | KernelJob;

export function work(job: Job): (count: number) => number {
  return 'moves' in job ? kernelWork(job) : readAll(job);
}

const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);

/** All devices are on one host; those that a row does not want sleep. */
function rowsOfDevices(tiny: boolean, chunk: number, windowMs: number): { rows: Row[]; team: Team } {
  const team = new Team(deviceModule, attachFunctions(tiny ? 4 : 64, devicePages).map(({ buffers, pciFunction }): Job => ({ buffers, pciFunction })), 'device');
  let last: readonly number[] = [];
  const row = (devices: number): SampledRow => ({
    name: `${devices}`,
    unit: 'op/s',
    sample() {
      const { seconds, made, sum: checksum } = team.steady(chunk, windowMs, tiny ? Math.min(4, devices) : devices);
      last = made;
      return { value: (seconds * 1e9) / sum(made), checksum };
    },
  });
  const shared: SampledRow = { name: '64-fairness', unit: 'ratio', sample: () => ({ value: evenness(last), checksum: last.length }) };
  return { rows: [...sizes.map(row), ...sizes.slice(1).map((devices): Row => ({ name: `${devices}-over-1`, of: `${devices}`, against: '1' })), shared], team };
}

/** A device alone and beside one other thread. */
function rowsOfReaders(neighbours: Neighbours, chunk: number, windowMs: number): { rows: Row[]; teams: Team[] } {
  const alone: Job = neighbours.reader;
  const teams = [[alone], [alone, neighbours.mapper], [alone, neighbours.replacer]].map((jobs) => new Team(module, jobs));
  const sampleOf = (team: Team) => (): Sample => {
    const { seconds, made } = team.steady(chunk, windowMs);
    return { value: (seconds * 1e9) / made[0]!, checksum: chunk };
  };
  const [one, mapper, replacer] = teams.map(sampleOf);
  const rows: Row[] = [
    { name: 'readers-alone', unit: 'op/s', sample: one! },
    { name: 'readers-beside-mapper', unit: 'ratio', against: 'readers-alone', sample: mapper! },
    { name: 'readers-beside-replace', unit: 'ratio', against: 'readers-alone', sample: replacer! },
  ];
  return { rows, teams };
}

export default {
  asks: 'what do devices do together that one does alone, how evenly, and what does the kernel at work beside one cost it?',
  prepare(tiny) {
    const [chunk, windowMs] = tiny ? [16, 5] : [2048, 150];
    const devices = rowsOfDevices(tiny, chunk, windowMs);
    const readers = rowsOfReaders(besideKernel(devicePages), chunk, windowMs);
    return {
      rounds: 15,
      rows: [...devices.rows, ...readers.rows],
      within(measure) {
        // Every thread compiles for itself.
        if (!tiny) for (const team of [devices.team, ...readers.teams]) team.steady(chunk, team === devices.team ? 4000 : 500);
        measure();
        for (const team of [devices.team, ...readers.teams]) team.end();
      },
    };
  },
} satisfies Question;
