/** A host whose one device makes page requests, and what its users and threads do about them; with an invariant over its history. */
import { History, historyBytes } from '#hostmem/history';
import type { Ref } from '#hostmem/object';
import { loadInvariants } from '#src/check/catalogue';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { driverInForce } from '#src/drivers/in-force';
import { Machine } from '#src/hardware/machine';
import { askForPage } from '#src/hardware/page-requests';
import { HwptFlag } from '#src/kernel/hwpt';
import { VfioFlag } from '#src/kernel/vfio';
import { handOnRequests } from '#src/kernel/iopf';
import { Kernel } from '#src/kernel/kernel';
import { ioctl, read, write } from '#src/kernel/syscalls';
import { correct, operationsOf, type Variant } from '#src/kernel/variant';
import { World } from '#src/world';
import { errnoOf } from '../kernel/vmm.ts';

export async function pageRequestHost(id: string, changes: Partial<Variant> = {}) {
  const w = new World({ iommu: 'vtd-scalable', ats: true, pageRequests: true, pasids: true });
  const vmm = w.process('vmm');
  const iommufd = vmm.iommufd();
  const { fd, deviceId } = vmm.bound(w.group('nic').vfio[0]!, iommufd);
  w.device('disk');
  const [first, second] = [0, 1].map(() => vmm.faultHwptAndQueue(iommufd, deviceId, vmm.ioas(iommufd), HwptFlag.PASID));
  const memory = w.host.kernel;
  const history = new History(new SharedArrayBuffer(historyBytes(1, 2048)), 1, 2048);
  memory.history = history;
  const judge = new Judge(await loadInvariants([id]), history, new View(w.host.buffers));
  const machine = new Machine(w.host);
  const kernel = new Kernel(w.host, operationsOf({ ...correct, ...changes }), driverInForce(w.host, machine));
  kernel.enter(vmm.ref);
  const [nic, disk] = [w.directory['nic'] as Ref<'PciFunction'>, w.directory['disk'] as Ref<'PciFunction'>];
  return {
    memory, nic, disk, first: first!, second: second!,
    ask: (pasid: number | null = null) => askForPage(memory, nic, pasid, 7, 1),
    attachPasid: (pasid: number, hwpt: number) => errnoOf(() => ioctl(kernel, fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: VfioFlag.PASID, ptId: hwpt, pasid })),
    detachPasid: (pasid: number) => errnoOf(() => ioctl(kernel, fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: VfioFlag.PASID, pasid })),
    handOn: () => handOnRequests(kernel, nic),
    attach: (hwpt: number) => errnoOf(() => ioctl(kernel, fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId: hwpt })),
    detach: () => errnoOf(() => ioctl(kernel, fd, 'VFIO_DEVICE_DETACH_IOMMUFD_PT', { argsz: 12, flags: 0 })),
    /** Bytes of records: 40 each. */
    readAll: (faultFd: number) => read(kernel, faultFd, 400).length,
    answer: (faultFd: number, cookie: number) => errnoOf(() => write(kernel, faultFd, new Uint8Array(Uint32Array.of(cookie, 0).buffer))),
    verdict: () => judge.quiescence()?.message ?? null,
  };
}
