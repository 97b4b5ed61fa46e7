/** What follows from the mistake of replace v2, in one thread, when the VMM believes the sibling's record. */
import type { Ref } from '#hostmem/object';
import { Machine } from '#src/hardware/machine';
import { Kernel } from '#src/kernel/kernel';
import { MapFlag } from '#src/kernel/ioas';
import { ioctl } from '#src/kernel/syscalls';
import { correct, operationsOf, type Variant } from '#src/kernel/variant';
import replaceV2 from '#src/kernel/variants/replace-v2';
import { World } from '#src/world';
import { expect, test } from 'vitest';

const src = 0x10000000;
const fresh = 0x20000000;
const page = 4096;

/** A and B on IOAS 1; A is replaced to IOAS 2; then the VMM maps for B on IOAS 1, where it believes B to be. */
function story(variant: Variant) {
  const world = new World();
  const group = world.group('A', 'B');
  const lone = world.group('L');
  const vmm = world.process('vmm');
  const iommufd = vmm.iommufd();
  const [ioas1, ioas2] = [0x1111, 0x2222].map((tag) => {
    const ioas = vmm.ioas(iommufd);
    vmm.map(iommufd, ioas, src, vmm.memory(page, tag), page);
    return ioas;
  }) as [number, number];
  const [a, b] = group.vfio.map((vfio) => vmm.bind(vfio, iommufd)) as [number, number];
  for (const fd of [a, b]) vmm.attach(fd, ioas1);
  // Another group keeps IOAS 1's domain alive: a MAP there must go on working for it.
  vmm.attach(vmm.bind(lone.vfio[0]!, iommufd), ioas1);
  const kernel = new Kernel(world.host, operationsOf(variant), world.kernel.driver);
  kernel.enter(vmm.ref);
  ioctl(kernel, a, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId: ioas2 });
  const flags = MapFlag.FIXED_IOVA | MapFlag.READABLE | MapFlag.WRITEABLE;
  ioctl(kernel, iommufd, 'IOMMU_IOAS_MAP', { flags, ioasId: ioas1, userVa: vmm.memory(page, 0x3333), length: BigInt(page), iova: BigInt(fresh) });
  const machine = new Machine(world.host);
  const read = (name: string, iova: number): number | 'fault' => {
    const engine = machine.dma(world.directory[name] as Ref<'PciFunction'>);
    return engine.read(0, iova, 64) === 0 ? engine.bufferWord(0) : 'fault';
  };
  const again = { argsz: 16, flags: 0, ptId: ioas1 };
  ioctl(kernel, b, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', again);
  return { read };
}

test('replace v2: what is mapped for the sibling reaches only others, and asking again for its recorded IOAS changes nothing', () => {
  const { read } = story(replaceV2);
  expect(read('L', fresh)).toBe(0x3333);
  expect(read('B', fresh)).toBe('fault');
  expect(read('B', src)).toBe(0x2222);
});

test('7.2: asking again moves the whole group back, and what was mapped there is reached', () => {
  const { read } = story(correct);
  expect(read('L', fresh)).toBe(0x3333);
  expect([read('A', fresh), read('B', fresh)]).toEqual([0x3333, 0x3333]);
});
