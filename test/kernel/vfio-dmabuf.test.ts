/** Registers of a VFIO device as a dma-buf: another device reaches them, as long as the memory of the first is on. */
import { poke } from '#hostmem/atomics';
import { VfioDevice } from '#src/kernel/vfio';
import { switchMemory, type VfioFeature } from '#src/kernel/vfio-dmabuf';
import { ioctl } from '#src/kernel/syscalls';
import { expect, test } from 'vitest';
import { errnoOf, fixed, page, Vmm } from './vmm.ts';

const GET = 1 << 16;
const DMA_BUF = 11;

/** A and B of two groups, bound, B attached to the IOAS. */
function setUp() {
  const vmm = new Vmm();
  const [a, b] = [vmm.world.group('A').vfio[0]!, vmm.world.group('B').vfio[0]!];
  const fd = vmm.iommufd();
  const ioas = vmm.ioas(fd);
  const [exporter, importer] = [vmm.openVfio(a), vmm.openVfio(b)];
  for (const device of [exporter, importer]) vmm.bindTo(device, fd);
  vmm.attach(importer, ioas);
  const feature = (change: Partial<VfioFeature> = {}): number => {
    vmm.enter();
    const arg = { argsz: 40, flags: GET | DMA_BUF, regionIndex: 0, dmabufFlags: 0, ranges: [[0x2000n, 0x2000n]] as [bigint, bigint][], ...change };
    return ioctl(vmm.world.kernel, exporter, 'VFIO_DEVICE_FEATURE', arg);
  };
  const map = (dmabuf: number, iova: number, length: number = 2 * page, start: number = 0) =>
    vmm.ioctl(fd, 'IOMMU_IOAS_MAP_FILE', { flags: fixed, ioasId: ioas, fd: dmabuf, start: BigInt(start), length: BigInt(length), iova: BigInt(iova) });
  const memory = (on: boolean) => errnoOf(() => switchMemory(vmm.world.kernel, exporter, on));
  return { vmm, fd, ioas, exporter, feature, map, memory };
}

/** Writes a word of the registers that were exported. */
function setRegister(vmm: Vmm, offset: number, value: number): void {
  const { kernel, host } = vmm.world;
  let device = kernel.firstVfioDevice;
  while (VfioDevice.registers.peek(host.kernel, device) === 0) device = VfioDevice.next.peek(host.kernel, device);
  poke(host.ram, VfioDevice.registers.peek(host.kernel, device) * page + offset, value);
}

test('a device reads another one\'s registers, and what it maps is not accounted', () => {
  const { vmm, feature, map } = setUp();
  const dmabuf = feature();
  setRegister(vmm, 0x3000, 0x77);
  expect(map(dmabuf, 0x10000)).toBeNull();
  expect([vmm.sees('B', 0x10000), vmm.sees('B', 0x11000), vmm.ledger().pinned]).toEqual([0, 0x77, 0]);
  expect([map(dmabuf, 0x20000, page, page), map(dmabuf, 0x30000, 2 * page, page)]).toEqual([null, 'EINVAL']);
  expect(vmm.sees('B', 0x20000)).toBe(0x77);
});

test('while the memory is off nothing reaches the registers and nothing new is imported; who had imported has to anew', () => {
  const { vmm, fd, ioas, feature, map, memory } = setUp();
  const dmabuf = feature();
  map(dmabuf, 0x10000);
  expect(memory(true)).toBeNull();
  expect(vmm.sees('B', 0x10000)).toBe(0);
  expect(memory(false)).toBeNull();
  expect([vmm.sees('B', 0x10000), map(dmabuf, 0x20000), map(feature(), 0x20000)]).toEqual(['fault 6', 'ENODEV', 'ENODEV']);
  expect(memory(true)).toBeNull();
  expect([vmm.sees('B', 0x10000), map(dmabuf, 0x20000), vmm.sees('B', 0x20000)]).toEqual(['fault 6', null, 0]);
  expect(vmm.unmap(fd, ioas, 0x10000, 2 * page)).toBe(0x2000n);
});

test('the close of the device revokes for good, whatever still has the dma-buf', () => {
  const { vmm, feature, map, exporter, fd, ioas } = setUp();
  const dmabuf = feature();
  map(dmabuf, 0x10000);
  vmm.close(exporter);
  expect([vmm.sees('B', 0x10000), map(dmabuf, 0x20000)]).toEqual(['fault 6', 'ENODEV']);
  vmm.close(dmabuf);
  expect(vmm.unmap(fd, ioas, 0x10000, 2 * page)).toBe(0x2000n);
});

test('what an IOAS cannot take: several ranges', () => {
  const { feature, map } = setUp();
  expect(map(feature({ ranges: [[0n, 0x1000n], [0x8000n, 0x1000n]] }), 0x10000)).toBe('EOPNOTSUPP');
});

test.each<[string, string, Partial<VfioFeature>]>([
  ['a struct that cannot be read', 'EFAULT', { argsz: 7, argument: 'absent' }],
  ['a short argsz', 'EINVAL', { argsz: 20 }],
  ['an unknown flag', 'EINVAL', { flags: (1 << 19) | GET | DMA_BUF }],
  ['a feature to be got and set', 'EINVAL', { flags: (1 << 17) | GET | DMA_BUF }],
  ['a feature to be set', 'EINVAL', { flags: (1 << 17) | DMA_BUF }],
  ['a feature that is only named', 'EINVAL', { flags: DMA_BUF }],
  ['another feature', 'ENOTTY', { flags: GET | 3 }],
  ['flags of the dma-buf', 'EINVAL', { dmabufFlags: 1 }],
  ['no range', 'EINVAL', { ranges: [] }],
  ['a region that is no BAR', 'ENODEV', { regionIndex: 7 }],
  ['a BAR that is empty', 'EINVAL', { regionIndex: 1 }],
  ['half a page', 'EINVAL', { ranges: [[0n, 0x800n]] }],
  ['a range beyond the region', 'EINVAL', { ranges: [[0xff000n, 0x2000n]] }],
  ['a range of nothing', 'EINVAL', { ranges: [[0n, 0n]] }],
])('%s is %s', (_, errno, change) => {
  const { vmm, feature } = setUp();
  const before = vmm.ledger();
  expect(errnoOf(() => feature(change))).toBe(errno);
  expect(vmm.ledger()).toEqual(before);
});

test('a probe says that the feature is there; a device that is not bound exports nothing, and has no memory to switch', () => {
  const { vmm, feature, exporter, memory } = setUp();
  expect(feature({ flags: (1 << 18) | GET | DMA_BUF })).toBe(0);
  vmm.close(exporter);
  expect(memory(true)).toBe('EBADF');
  const unbound = vmm.openVfio(0);
  expect(errnoOf(() => switchMemory(vmm.world.kernel, unbound, true))).toBe('EINVAL');
});
