/** A device of a VM, and what the kernel may be at beside it: mapping in its IOAS, or moving another group of the same VMM from IOAS to IOAS. */
import { Host, type HostBuffers } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { Machine } from '#src/hardware/machine';
import { MapFlag } from '#src/kernel/ioas';
import { Kernel } from '#src/kernel/kernel';
import { linux72 } from '#src/kernel/operations';
import { ioctl } from '#src/kernel/syscalls';
import { World } from '#src/world';
import type { OnHost } from './device.ts';

const readerIova = 0x1_0000_0000;
const mapperIova = 0x2_0000_0000;
const page = 4096;
/** How many pages the mapper maps one after the other. */
const mapperPages = 16;

/** What a thread is told that calls the kernel: where it maps, or what it moves. */
export interface KernelJob {
  readonly buffers: HostBuffers;
  readonly process: Ref<'Process'>;
  readonly maps: { readonly iommufd: number; readonly ioasId: number; readonly userVa: bigint } | null;
  /** A device, and the ids that it goes to in turn. */
  readonly moves: { readonly fd: number; readonly stops: readonly number[] } | null;
}

export interface Neighbours {
  readonly reader: OnHost;
  readonly mapper: KernelJob;
  readonly replacer: KernelJob;
}

/** A reader with so many pages, from iova 4 GiB on, in an IOAS of its VMM's; and a group of two on another one. */
export function besideKernel(pages: number): Neighbours {
  const world = new World({ vms: 4 });
  const vmm = world.process('vmm');
  const iommufd = vmm.iommufd();
  const ioas = vmm.ioas(iommufd);
  vmm.map(iommufd, ioas, readerIova, vmm.memory(pages * page), pages * page);
  const [reader] = world.group('reader').vfio;
  vmm.attach(vmm.bind(reader!, iommufd), ioas);
  const stops = [vmm.ioas(iommufd), vmm.ioas(iommufd)];
  for (const stop of stops) vmm.map(iommufd, stop, readerIova, vmm.memory(mapperPages * page), mapperPages * page);
  const fds = world.group('first', 'second').vfio.map((vfio) => vmm.bind(vfio, iommufd));
  for (const fd of fds) vmm.attach(fd, stops[1]!);
  const job = { buffers: world.host.buffers, process: vmm.ref, maps: null, moves: null };
  return {
    reader: { buffers: world.host.buffers, pciFunction: world.directory['reader'] as Ref<'PciFunction'> },
    mapper: { ...job, maps: { iommufd, ioasId: ioas, userVa: vmm.memory(mapperPages * page) } },
    replacer: { ...job, moves: { fd: fds[0]!, stops } },
  };
}

/** What such a thread does, over and over. */
export function kernelWork({ buffers, process, maps, moves }: KernelJob): (count: number) => number {
  const host = new Host(buffers);
  const kernel = new Kernel(host, linux72, new VtdDriver(host, new Machine(host)));
  kernel.enter(process);
  if (maps !== null) return (count) => mapAll(kernel, maps, count);
  return (count) => moveAll(kernel, moves!, count);
}

/** Returns how many pages went. */
function mapAll(kernel: Kernel, { iommufd, ioasId, userVa }: NonNullable<KernelJob['maps']>, count: number): number {
  let removed = 0;
  for (let i = 0; i < count; i++) {
    const iova = BigInt(mapperIova + (i % mapperPages) * page);
    const flags = MapFlag.FIXED_IOVA | MapFlag.READABLE | MapFlag.WRITEABLE;
    ioctl(kernel, iommufd, 'IOMMU_IOAS_MAP', { flags, ioasId, userVa, length: BigInt(page), iova });
    const unmap = { ioasId, iova, length: BigInt(page) };
    ioctl(kernel, iommufd, 'IOMMU_IOAS_UNMAP', unmap);
    removed += Number(unmap.length) / page;
  }
  return removed;
}

/** Returns the sum of the ids in force. */
function moveAll(kernel: Kernel, { fd, stops }: NonNullable<KernelJob['moves']>, count: number): number {
  const attach = { argsz: 16, flags: 0, ptId: 0 };
  let sum = 0;
  for (let i = 0; i < count; i++) {
    attach.ptId = stops[i % stops.length]!;
    ioctl(kernel, fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', attach);
    sum += attach.ptId;
  }
  return sum;
}
