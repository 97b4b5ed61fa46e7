import type { Ref } from '#hostmem/object';
import { errnoNumber } from '#src/kernel/errno';
import { CallBegan, CallEnded } from '#src/kernel/events';
import { commandNumber } from '#src/kernel/call-events';
import { Process } from '#src/kernel/process';
import { unreserve } from '#src/kernel/iopt-ranges';
import { VfioDevice } from '#src/kernel/vfio';
import { KernelRoot } from '#src/kernel/kernel';
import { expect, test } from 'vitest';
import { page } from '../kernel/vmm.ts';
import { attachedGroup } from './state.ts';

const einval = errnoNumber('EINVAL');

/** A group of two on an IOAS, judged at every event, as in a controlled run. */
async function setUp() {
  const all = await attachedGroup('O5');
  const { here, memory, vmm } = all;
  const found: string[] = [];
  here.history.listener = (kind) => {
    const verdict = here.judge.moment(kind);
    if (verdict !== null) found.push(verdict.message);
  };
  const began = (command = 'IOMMU_IOAS_MAP') => CallBegan.emit(memory, commandNumber(command), 1);
  const ended = (errno: number, command = 'IOMMU_IOAS_MAP') => CallEnded.emit(memory, commandNumber(command), 1, errno);
  const change = () => Process.pinnedPages.poke(memory, vmm.process.ref, 77);
  return { ...all, found, began, ended, change };
}
type All = Awaited<ReturnType<typeof setUp>>;

test.each<[string, (all: All) => void]>([
  ['calls of all kinds that fail', ({ vmm, fd, ioas, fds, hwpt }) => {
    const results = [
      vmm.map(fd, ioas[0]!, 0x9000, 0n), vmm.unmap(fd, ioas[0]!, 0x800, page), vmm.destroy(fd, ioas[0]!), vmm.destroy(fd, 99), vmm.attach(fds[0]!, 99),
      vmm.bindTo(fds[0]!, fd), vmm.destroy(fd, hwpt),
    ];
    expect(results).toEqual(['EFAULT', 'ENOENT', 'EBUSY', 'ENOENT', 'ENOENT', 'EINVAL', 'EBUSY']);
  }],
  ['calls that succeed change what they like', ({ vmm, fds, ioas, fd }) => {
    vmm.attach(fds[0]!, ioas[1]!);
    vmm.detach(fds[1]!);
    vmm.close(fds[1]!);
    vmm.unmap(fd, ioas[0]!, 0x1000, page);
  }],
  ['a change by another call, beside the one that fails', ({ began, ended, change }) => {
    began();
    began();
    change();
    ended(0);
    ended(einval);
  }],
  ['an unmap that fails when it has removed a part', ({ began, ended, change }) => {
    began('IOMMU_IOAS_UNMAP');
    change();
    ended(einval, 'IOMMU_IOAS_UNMAP');
  }],
])('holds: %s', async (_, happen) => {
  const all = await setUp();
  happen(all);
  expect(all.found).toEqual([]);
});

test.each<[string, (all: All) => void, string]>([
  ['pins', ({ change }) => change(), 'process 1: number of pinned pages was 1 and is 77'],
  ['a reserved region', ({ vmm, body, ioas, devices }) => {
    unreserve(vmm.world.kernel, body<'Ioas'>(ioas[0]!), body<'IommufdDevice'>(devices[0]!));
  }, 'context 0: IOAS 1, reserved region 0xfee00000-0xfeefffff was 2 and is 1'],
  ['a table entry', ({ vmm }) => {
    const { driver } = vmm.world.kernel;
    driver.attach(driver.blockedDomain, vmm.world.directory['A'] as Ref<'PciFunction'>);
  }, 'root frame of function 00:05.0 was'],
  ['an attachment as VFIO knows it', ({ memory, vmm }) => {
    const lone = KernelRoot.vfioDevices.peek(memory, vmm.world.kernel.root);
    VfioDevice.attached.poke(memory, lone, 1);
  }, 'vfio2: attachment was 0 and is 1'],
  ['an object', ({ vmm, fd }) => withoutEvents(vmm, () => vmm.ioas(fd)), 'context 0: IOAS 6, number of users is new'],
  ['no area', ({ vmm, fd, ioas }) => withoutEvents(vmm, () => vmm.unmap(fd, ioas[0]!, 0x1000, page)), 'context 0: IOAS 1, area 0x1000-0x1fff is gone'],
])('breaks: a call that fails leaves a change behind: %s', async (_, happen, message) => {
  const all = await setUp();
  all.began();
  happen(all);
  all.ended(einval);
  expect(all.found).toHaveLength(1);
  expect(all.found[0]).toContain(`IOMMU_IOAS_MAP failed with EINVAL, but ${message}`);
});

/** As part of the call that runs, not as one of its own. */
function withoutEvents(vmm: All['vmm'], body: () => void): void {
  const memory = vmm.world.host.kernel;
  const { history } = memory;
  memory.history = null;
  body();
  memory.history = history;
}
