/**
 * A fleet of four VMs for a minute, each second counted: whether its rate and its memory at the end are those of the beginning. The first
 * seconds, in which the compilers learn, are nobody's.
 */
import type { FleetSecond } from '../fleet.ts';
import type { Question, Sample } from '../question.ts';
import { startFleet } from '../start-fleet.ts';

const roundsPerSecond = (seconds: readonly FleetSecond[]): number => seconds.reduce((sum, { rounds }) => sum + rounds, 0) / seconds.length;

export default {
  asks: 'do rate and memory stay what they are while a fleet runs?',
  prepare(tiny) {
    const [vms, length, learning, part] = tiny ? [1, 2, 0, 1] : [4, 60, 12, 16];
    const { threads, seconds } = startFleet(vms, length);
    const sampleOf = (some: readonly FleetSecond[]): Sample => ({
      value: 1e9 / roundsPerSecond(some), checksum: threads, mib: some.at(-1)!.residentMiB / threads,
    });
    return {
      rounds: 1,
      rows: [
        { name: 'rounds/early', unit: 'op/s', sample: () => sampleOf(seconds.slice(learning, learning + part)) },
        { name: 'rounds/late', unit: 'op/s', sample: () => sampleOf(seconds.slice(-part)) },
        { name: 'late-over-early', of: 'rounds/late', against: 'rounds/early' },
      ],
    };
  },
} satisfies Question;
