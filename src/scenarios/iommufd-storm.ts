/**
 * Threads of two VMMs make random calls, valid and invalid, on what they share: descriptors, IOASes, groups and devices; the devices do DMA
 * all the while. Each thread's program comes from the seed and the schedule's number. What must hold is that nothing breaks, and that every
 * errno is one that the calls beside it explain.
 */
import { createRun } from '#hostmem/run';
import type { Device } from '../actors/device.ts';
import { stormStep } from '../actors/storm/step.ts';
import { shelfWords, type StormStage } from '../actors/storm/storm.ts';
import { vtdCalls } from '../actors/storm/vtd-calls.ts';
import { scenario, type Actors } from '../scenario.ts';

const page = 4096;
const pages = 6;
const firstIova = 0x1000_0000;
const iovaPages = 8;
/** Calls of each thread, and DMAs of each device, in a schedule. */
const calls = 6;
const requests = 4;
const devices = ['A', 'B', 'C'];

interface Stage extends Record<string, unknown> {
  readonly vmm: StormStage;
  readonly rival: StormStage;
}

export default scenario<Stage>({
  title: 'threads of two VMMs make random calls on shared objects, while their devices do DMA',
  seed: null,
  vms: 5,
  variants: [],
  holds: ['D1', 'D4', 'D6', 'D7', 'D10', 'G1', 'G2', 'O1', 'O2', 'O3', 'O4', 'P1', 'P3', 'P5', 'O6'],

  world(w) {
    const { vfio } = w.group('A', 'B');
    const others = w.group('C').vfio;
    const stageOf = (name: string): { stage: StormStage; process: ReturnType<typeof w.process> } => {
      const process = w.process(name);
      const iommufd = process.iommufd();
      return { process, stage: { iommufd, va: Number(process.memory(pages * page)), pages, vfio: [...vfio, ...others], shelf: createRun(w.host.kernel, shelfWords) } };
    };
    const { process, stage: vmm } = stageOf('vmm');
    const ids = [0, 1, 2].map(() => process.ioas(vmm.iommufd));
    for (const ioas of ids.slice(0, 2)) process.map(vmm.iommufd, ioas, firstIova, BigInt(vmm.va), 2 * page);
    for (const number of [...vfio, ...others]) process.attach(process.bind(number, vmm.iommufd), ids[0]!);
    const { process: other, stage: rival } = stageOf('rival');
    other.ioas(rival.iommufd);
    return { vmm, rival };
  },

  /** One of the threads is of a VMM of its own, which wants the same devices. */
  actors({ vm, device }, { vms }) {
    const actors: Record<string, Actors<Stage>[string]> = {};
    for (let index = 0; index < vms - 1; index++) actors[`vmm ${index}`] = vm('vmm', (thread, { vmm }) => stormStep(thread, vmm, vtdCalls), calls);
    actors['rival'] = vm('rival', (thread, { rival }) => stormStep(thread, rival, vtdCalls), calls);
    for (const name of devices) actors[name] = device(name, request, requests);
    return actors;
  },
});

function request(dev: Device): void {
  const iova = firstIova + dev.random(iovaPages) * page;
  if (dev.random(2) === 0) dev.read(iova, 64);
  else dev.write(iova, 64);
}
