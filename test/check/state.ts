/** Hosts at rest, for invariants that look at records: a group of two on an IOAS, and a vIOMMU. */
import { History, historyBytes } from '#hostmem/history';
import type { Ref } from '#hostmem/object';
import { loadInvariants } from '#src/check/catalogue';
import { Judge } from '#src/check/judge';
import { View } from '#src/check/view';
import { File } from '#src/kernel/open-file';
import { Iommufd, IommufdObject, type ObjectRef } from '#src/kernel/objects';
import { Process } from '#src/kernel/process';
import { IommufdGroup } from '#src/kernel/iommufd-group';
import { IommuGroup } from '#src/kernel/iommu-group';
import { AbleVmm } from '../kernel/able-driver.ts';
import { page } from '../kernel/vmm.ts';
import { court } from './histories.ts';

export async function attachedGroup(id: string) {
  const here = await court(id);
  const { vmm } = here;
  const memory = vmm.world.host.kernel;
  const fd = vmm.iommufd();
  const ioas = [vmm.ioas(fd), vmm.ioas(fd)];
  vmm.map(fd, ioas[0]!, 0x1000, vmm.process.memory(page, 1));
  const fds = here.group.vfio.map((number) => vmm.process.bind(number, fd));
  const hwpt = vmm.attach(fds[0]!, ioas[0]!) as number;
  vmm.attach(fds[1]!, ioas[0]!);
  const iommufd = File.body.peek(memory, Process.files.get(memory, vmm.process.ref, fd - 2)) as Ref<'Iommufd'>;
  const object = (number: number) => Iommufd.objects.get(memory, iommufd, number) as ObjectRef;
  const body = <T extends string>(number: number) => IommufdObject.body.peek(memory, object(number)) as Ref<T>;
  const group = Iommufd.groups.peek(memory, iommufd);
  const core = IommufdGroup.group.peek(memory, group);
  const verdict = () => here.verdict()?.message ?? null;
  const blocking = IommuGroup.blockingDomain.peek(memory, core);
  return { here, vmm, memory, fd, ioas, fds, hwpt, devices: [3, 4], iommufd, object, body, group, core, blocking, verdict };
}

/** A VMM whose driver knows vIOMMUs, with an invariant over its host; a nest parent and a vIOMMU with a vdevice of device 2. */
export async function virtualised(id: string) {
  const vmm = new AbleVmm();
  const memory = vmm.world.host.kernel;
  const history = new History(new SharedArrayBuffer(historyBytes(1, 1024)), 1, 1024);
  memory.history = history;
  const judge = new Judge(await loadInvariants([id]), history, new View(vmm.world.host.buffers));
  const parent = vmm.hwpt(1) as number;
  const viommu = vmm.viommu(parent) as number;
  const vdevice = vmm.vdevice(viommu, 5n) as number;
  const iommufd = File.body.peek(memory, Process.files.get(memory, vmm.process.ref, vmm.fd - 2)) as Ref<'Iommufd'>;
  const object = (number: number) => Iommufd.objects.get(memory, iommufd, number) as ObjectRef;
  const body = <T extends string>(number: number) => IommufdObject.body.peek(memory, object(number)) as Ref<T>;
  return { vmm, memory, judge, parent, viommu, vdevice, iommufd, object, body, verdict: () => judge.quiescence()?.message ?? null };
}
