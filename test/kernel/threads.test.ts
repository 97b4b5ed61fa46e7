import { History, historyBytes } from '#hostmem/history';
import { loadInvariants } from '#src/check/catalogue';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { expect, test } from 'vitest';
import { answerOf } from '../answer-of.ts';
import { page, U64, Vmm } from './vmm.ts';
import type { VmmTask } from './vmm.worker.ts';

interface Answer {
  readonly device: number;
  readonly succeeded: Readonly<Record<string, number>>;
}

async function atRest(vmm: Vmm): Promise<unknown> {
  const history = new History(new SharedArrayBuffer(historyBytes(1, 1)), 1, 1);
  return new Judge(await loadInvariants(['G1', 'G2', 'O1']), history, new View(vmm.world.host.buffers)).quiescence();
}

test('three threads map, unmap, attach, replace, detach, destroy and bind on one iommufd: at rest every count is exact', async () => {
  const vmm = new Vmm();
  const group = vmm.world.group('A', 'B', 'C');
  const userVa = vmm.process.memory(4 * page);
  // The list of descriptors has its node already.
  vmm.iommufd();
  const before = vmm.ledger();
  const iommufd = vmm.iommufd();
  const ioases = [vmm.ioas(iommufd), vmm.ioas(iommufd), vmm.ioas(iommufd)];
  const common = { buffers: vmm.world.host.buffers, process: vmm.process.ref, iommufd, ioases, userVa, rounds: 3000 };
  const answers = await Promise.all(group.vfio.map((vfio) => answerOf<Answer>('kernel/vmm.worker', { ...common, vfio, seed: 1000 + vfio } satisfies VmmTask)));
  for (const { succeeded } of answers) {
    for (const what of ['map', 'unmap', 'attach', 'detach', 'alloc', 'bind', 'destroy']) expect(succeeded[what]).toBeGreaterThan(10);
  }
  expect(await atRest(vmm)).toBeNull();

  const devices = answers.map(({ device }) => device);
  for (const device of devices) expect(vmm.detach(device)).toBeNull();
  // A HWPT that another thread held when its last device left has survived (A10): the next attach finds it, and takes it along.
  for (const id of ioases) {
    expect(vmm.attach(devices[0]!, id)).toBeTypeOf('number');
    expect(vmm.detach(devices[0]!)).toBeNull();
  }
  expect(await atRest(vmm)).toBeNull();
  expect(vmm.ledger().pinned).toBe(0);
  for (const id of ioases) {
    expect(vmm.unmap(iommufd, id, 0n, U64)).toBeTypeOf('bigint');
    expect(vmm.destroy(iommufd, id)).toBeNull();
  }
  for (const fd of [iommufd, ...devices]) vmm.close(fd);
  expect(vmm.ledger()).toEqual(before);
});
