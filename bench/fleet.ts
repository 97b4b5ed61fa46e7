/**
 * A program of its own: the scenario `fleet` with so many VMs, each with a device and a vIOMMU (three threads), until it is ready, and
 * then for so long. Prints a `FleetReport`.
 */
import { Arena } from '#src/arena';
import { choose } from '#src/chosen';
import { Counters } from '#src/actors/counters';
import { Pace } from '#src/actors/pace';
import { actorsOf, parametersOf } from '#src/scenario';
import { setTimeout as sleep } from 'node:timers/promises';

/** What one second did. */
export interface FleetSecond {
  /** Rounds of all actors' bodies. */
  readonly rounds: number;
  readonly residentMiB: number;
}

export interface FleetReport {
  readonly threads: number;
  /** From the start of the process until all threads have joined and met. */
  readonly readyMs: number;
  readonly residentMiB: number;
  readonly seconds: readonly FleetSecond[];
}

const [vms, seconds] = process.argv.slice(2).map(Number) as [number, number];
/** Events that the rings hold together, and the least that one holds. */
const allEvents = 1 << 17;
const fewestEvents = 1 << 11;
const residentMiB = (): number => process.memoryUsage.rss() / 2 ** 20;

const { scenario, variant, holds } = await choose({ scenario: 'fleet', variant: 'correct' });
const parameters = parametersOf(scenario.value, vms);
const threads = Object.keys(actorsOf(scenario.value, parameters)).length;
const arena = new Arena({ scenario, variant, holds, seed: 1, parameters, rings: threads, capacity: Math.max(fewestEvents, Math.floor(allEvents / threads)) });
const pace = Pace.createBuffer(threads);
const ended = arena.start({ pace });

/** Until all have met for the first time, which is when all have joined. */
while (Pace.slices(pace) === 0) await Promise.race([sleep(5), ended]);
const ready = { threads, readyMs: performance.now(), residentMiB: residentMiB() };

const made: FleetSecond[] = [];
let before = Counters.total(arena.counters, threads).rounds;
for (let second = 0; second < seconds; second++) {
  await Promise.race([sleep(1000), ended]);
  const { rounds } = Counters.total(arena.counters, threads);
  made.push({ rounds: rounds - before, residentMiB: residentMiB() });
  before = rounds;
}
Pace.stop(pace);
const broken = (await ended).find(({ violation }) => violation !== null);
await arena.destroy();
if (broken !== undefined) throw new Error(`fleet: ${broken.violation!.invariant} ${broken.violation!.message}`);
const report: FleetReport = { ...ready, seconds: made };
console.log(JSON.stringify(report));
