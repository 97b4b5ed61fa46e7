/** Runs the threads of a recorded race for real, at the same time, on the player's host. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import type { HostBuffers } from '#hostmem/host';
import { Piscina } from 'piscina';
import type { RaceReport, RaceTask } from '../task.ts';

const raceUrl = pathToFileURL(createRequire(import.meta.url).resolve('#bundle/worker')).href;

/** One thread for each piece of work; settles when all are done, or when one breaks. */
export async function runRace(host: HostBuffers, process: number, works: readonly RaceTask['work'][]): Promise<RaceReport[]> {
  const threads = works.length;
  const pool = new Piscina({
    filename: raceUrl, name: 'race', minThreads: threads, maxThreads: threads, concurrentTasksPerWorker: 1, idleTimeout: Infinity, atomics: 'async', env: {},
  });
  const gate = new SharedArrayBuffer(12);
  try {
    return await Promise.all(works.map((work) => pool.run({ host, process, gate, threads, work } satisfies RaceTask) as Promise<RaceReport>));
  } finally {
    await pool.destroy();
  }
}
