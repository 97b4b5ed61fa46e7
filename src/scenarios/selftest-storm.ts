/**
 * As `iommufd-storm`, in the world of the kernel's selftest: eight threads share what VT-d of 7.2 does not have, mock devices with nested
 * HWPTs, vIOMMUs, vdevices, event and hardware queues, page requests and dirty tracking.
 */
import { createRun } from '#hostmem/run';
import { mockCalls } from '../actors/storm/mock-calls.ts';
import { stormStep } from '../actors/storm/step.ts';
import { shelfWords, type StormStage } from '../actors/storm/storm.ts';
import { scenario, type Actors } from '../scenario.ts';

const page = 4096;
const pages = 6;
const firstIova = 0x1000_0000;
const calls = 6;

interface Stage extends Record<string, unknown> {
  readonly stage: StormStage;
}

export default scenario<Stage>({
  title: 'threads of a VMM make random calls on shared mock devices and all that only they can have',
  seed: null,
  vms: 8,
  variants: [],
  host: { iommu: 'mock' },
  holds: ['G2', 'O1', 'O2', 'O3', 'O4', 'P1', 'P3', 'P5', 'O6'],

  world(w) {
    const process = w.process('vmm');
    const iommufd = process.iommufd();
    const va = process.memory(pages * page);
    const [first] = [0, 1].map(() => process.ioas(iommufd));
    process.map(iommufd, first!, firstIova, va, 2 * page);
    const { deviceId: device } = process.mockDevice(iommufd, first!);
    process.mockDevice(iommufd, first!);
    const parent = process.hwpt(iommufd, device, first!, 1);
    process.viommu(iommufd, device, parent);
    return { stage: { iommufd, va: Number(va), pages, vfio: [0], shelf: createRun(w.host.kernel, shelfWords) } };
  },

  actors({ vm }, { vms }) {
    const actors: Record<string, Actors<Stage>[string]> = {};
    for (let index = 0; index < vms; index++) actors[`vmm ${index}`] = vm('vmm', (thread, { stage }) => stormStep(thread, stage, mockCalls), calls);
    return actors;
  },
});
