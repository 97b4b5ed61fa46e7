/** Files and dma-bufs under several processes at once. */
import { fork } from '#src/kernel/fork';
import { Capability } from '#src/kernel/accounting';
import type { Ref } from '#hostmem/object';
import { expect, test } from 'vitest';
import { answerOf } from '../answer-of.ts';
import type { FilesTask } from './files.worker.ts';
import { MockWorld } from './mock-world.ts';
import { page, U64 } from './vmm.ts';

/** How often a thread succeeded, by what. */
type Answer = Readonly<Record<string, number>>;

test.each([[0n, 'user'], [1n, 'process']])(
  'three processes map, revoke, attach and take over what is mapped: at rest nobody pays for anything (mode %i, the %s)', async (mode) => {
    const world = new MockWorld();
    world.destroy(world.ioasId);
    world.ioctl('IOMMU_OPTION', { optionId: 0, op: 0, objectId: 0, val64: mode });
    const ioases = [world.ioas(), world.ioas()];
    world.dropCapability(Capability.IPC_LOCK);
    world.limitPages(24);
    const memfd = world.memfd(4);
    const dmabuf = world.test('IOMMU_TEST_DMABUF_GET', { length: 4 * page }) as number;
    const userVa = world.memory(4);
    const processes: Ref<'Process'>[] = [world.process, fork(world.kernel, 2), fork(world.kernel, 3)];
    const before = world.ledger();
    const common = { buffers: world.host.buffers, fd: world.fd, ioases, memfd, dmabuf, userVa, rounds: 600 };
    const answers = await Promise.all(processes.map((process, index) => answerOf<Answer>('kernel/files.worker', { ...common, process, seed: 77 + index } satisfies FilesTask)));
    for (const what of ['memory', 'file', 'dmabuf', 'unmap', 'attach', 'destroy', 'revoke', 'change']) {
      expect(answers.reduce((sum, succeeded) => sum + (succeeded[what] ?? 0), 0)).toBeGreaterThan(3);
    }
    for (const ioasId of ioases) world.ioctl('IOMMU_IOAS_UNMAP', { ioasId, iova: 0n, length: U64 });
    for (const process of processes) expect(world.accounts(process)).toEqual({ pin: 0, lck: 0, user: 0 });
    expect(world.ledger()).toEqual(before);
  },
);
