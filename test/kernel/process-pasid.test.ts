/** Numbers of processes: one for each on every device, the lowest free one, given back with the last bond. */
import { HwptFlag } from '#src/kernel/hwpt';
import { File } from '#src/kernel/open-file';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { bindProcess, firstProcessPasid, ownPasid, unbindProcess } from '#src/kernel/process-pasid';
import { Process } from '#src/kernel/process';
import { View } from '#src/check/view';
import { cachedPasids } from '#src/check/cached';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { World } from '#src/world';
import type { Ref } from '#hostmem/object';
import { expect, test } from 'vitest';
import { errnoOf } from './vmm.ts';

/** Processes with two devices each. */
function setUp(names: readonly string[]) {
  const w = new World({ iommu: 'vtd-first-stage', pasids: true, vms: names.length });
  const built = names.map((name) => {
    const process = w.process(name);
    const iommufd = process.iommufd();
    const ioas = process.ioas(iommufd);
    process.map(iommufd, ioas, 0x10000000, process.memory(4096, 7), 4096);
    const devices = [0, 1].map((index) => {
      const { fd, deviceId } = process.bound(w.group(`${name}${index}`).vfio[0]!, iommufd);
      const file = File.body.peek(w.host.kernel, Process.files.get(w.host.kernel, process.ref, fd - 2)) as Ref<'VfioFile'>;
      return { file, hwpt: process.hwpt(iommufd, deviceId, ioas, HwptFlag.PASID), name: `${name}${index}` };
    });
    return { process, devices };
  });
  const machine = new Machine(w.host);
  const kernel = new Kernel(w.host, linux72, driverInForce(w.host, machine));
  const as = <T>(index: number, call: () => T): T => {
    kernel.enter(built[index]!.process.ref);
    return call();
  };
  return {
    w, kernel, machine, as,
    file: (index: number, device: number) => built[index]!.devices[device]!.file,
    bind: (index: number, device: number) => as(index, () => bindProcess(kernel, built[index]!.devices[device]!.file, built[index]!.devices[device]!.hwpt)),
    unbind: (index: number, device: number) => as(index, () => unbindProcess(kernel, built[index]!.devices[device]!.file)),
  };
}

test('a process has one number on every device, two processes have two', () => {
  const { bind, kernel, as } = setUp(['a', 'b']);
  expect([bind(0, 0), bind(1, 0), bind(0, 1), bind(1, 1)]).toEqual([0, 1, 0, 1].map((one) => firstProcessPasid + one));
  expect([0, 1].map((index) => as(index, () => ownPasid(kernel)))).toEqual([firstProcessPasid, firstProcessPasid + 1]);
});

test('the number goes with the last bond, not before, and is the next one to be given out', () => {
  const { bind, unbind, kernel, as } = setUp(['a', 'b']);
  for (const device of [0, 1]) bind(0, device);
  unbind(0, 0);
  expect(bind(1, 0)).toBe(firstProcessPasid + 1);
  unbind(0, 1);
  expect(as(0, () => ownPasid(kernel))).toBe(0);
  expect(bind(0, 0)).toBe(firstProcessPasid);
});

test('a bind that is refused leaves no number behind', () => {
  const { kernel, as, file } = setUp(['a']);
  expect(errnoOf(() => as(0, () => bindProcess(kernel, file(0, 0), 4711)))).toBe('ENOENT');
  expect(as(0, () => ownPasid(kernel))).toBe(0);
});

test('when the number is given back no cache holds anything under it', () => {
  const { w, machine, bind, unbind } = setUp(['a']);
  const pasid = bind(0, 0);
  const dma = machine.dma(w.directory['a0'] as Ref<'PciFunction'>);
  expect(dma.read(0, 0x10000000, 4, 0, pasid)).toBe(0);
  const view = new View(w.host.buffers);
  expect(cachedPasids(view).has(pasid)).toBe(true);
  unbind(0, 0);
  expect(cachedPasids(view).has(pasid)).toBe(false);
});
