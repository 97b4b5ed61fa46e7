/** What the selftest asks about the kernel's own state, and small changes to it (drivers/iommu/iommufd/selftest.c). */
import { frameOf } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { IommuDomain } from '../../drivers/domain.ts';
import { cacheWords, MockDevice, mockDeviceOf } from '../../drivers/mock/device.ts';
import { iotlbWords, MockNested, nestedOf } from '../../drivers/mock/nested.ts';
import { checkReadable, type UserBuffer } from '../argument.ts';
import { fail } from '../errno.ts';
import { Hwpt } from '../hwpt.ts';
import { getIoas, Ioas } from '../ioas.ts';
import { PciDevice } from '../iommu-group.ts';
import { getDevice, IommufdDevice } from '../iommufd-device.ts';
import { reserve } from '../iopt-ranges.ts';
import type { Kernel } from '../kernel.ts';
import { getObject, IommufdObject, Kind } from '../objects.ts';
import { isCompound, userAddress } from '../process.ts';
import { PAGE, U64_MAX } from '../u64.ts';

export interface AddReserved { id: number; start: bigint; length: bigint }
export interface MdCheckMap { id: number; iova: bigint; length: bigint; userVa: bigint }
export interface MdCheckRefs { length: bigint; userVa: bigint; refs: number }
export interface MdCheckIotlb { id: number; iotlbId: number; iotlb: number }
export interface DevCheckCache { id: number; cacheId: number; cache: number }
export interface SetTempMemoryLimit { limit: number }
/** `bitmap` is null for a null pointer. */
export interface MarkDirty extends UserBuffer { id: number; iova: bigint; length: bigint; pageSize: bigint; bitmap: Uint8Array | null; outNrDirty: number }

/** Whom ranges of ADD_RESERVED belong to. */
const selftestOwner = -1;

/** ADD_RESERVED: a range that belongs to nobody for the life of the IOAS. EINVAL, EOVERFLOW, ENOENT, EADDRINUSE. */
export function addReserved(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, start, length }: AddReserved): void {
  if (length === 0n) fail('EINVAL', 'length is 0');
  if (start + length - 1n > U64_MAX) fail('EOVERFLOW', 'start + length wraps');
  const ioas = getIoas(kernel, iommufd, id);
  Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
  try {
    reserve(kernel, ioas, start, start + length - 1n, selftestOwner);
  } finally {
    Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

/** MD_CHECK_MAP: whether each page of the domain reaches the page behind the user's address. ENOENT, EINVAL, EFAULT. */
export function mdCheckMap(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, iova, length, userVa }: MdCheckMap): void {
  const domain = getDomain(kernel, iommufd, id);
  const page = 1n << BigInt(IommuDomain.smallestPageBits.peek(kernel.memory, domain));
  if (iova % page !== 0n || length % page !== 0n || userVa % page !== 0n || userVa + length > U64_MAX) fail('EINVAL', `not aligned to ${page}`);
  for (let offset = 0n; offset < length; offset += page) {
    const expected = userAddress(kernel, kernel.process, userVa + offset);
    const found = kernel.driver.iovaToPhys?.(domain, iova + offset);
    if (found !== expected) fail('EINVAL', `0x${(iova + offset).toString(16)} is mapped elsewhere, or not at all`);
  }
}

/** The domain of a paging HWPT. ENOENT. */
function getDomain(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'IommuDomain'> {
  const header = kernel.hold(getObject(kernel, iommufd, id, Kind.HWPT));
  return Hwpt.domain.peek(kernel.memory, IommufdObject.body.peek(kernel.memory, header) as Ref<'Hwpt'>);
}

/** MD_CHECK_REFS: whether each page is pinned so often; parts of large pages are passed over. EINVAL, EFAULT, EIO. */
export function mdCheckRefs(kernel: Kernel, _iommufd: Ref<'Iommufd'>, { length, userVa, refs }: MdCheckRefs): void {
  if (length % PAGE !== 0n || userVa % PAGE !== 0n || userVa + length > U64_MAX) fail('EINVAL', 'not aligned to pages');
  for (let offset = 0n; offset < length; offset += PAGE) {
    const frame = frameOf(userAddress(kernel, kernel.process, userVa + offset));
    if (isCompound(kernel, kernel.process, userVa + offset)) continue;
    const pins = kernel.host.frames.pinsOf(frame);
    if (pins !== refs) fail('EIO', `page 0x${(userVa + offset).toString(16)} is pinned ${pins} times`);
  }
}

/** MD_CHECK_IOTLB: a word of a nested domain. ENOENT, EINVAL. */
export function mdCheckIotlb(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, iotlbId, iotlb }: MdCheckIotlb): void {
  const memory = kernel.memory;
  const header = kernel.hold(getObject(kernel, iommufd, id, Kind.NESTED_HWPT));
  const nested = nestedOf(memory, Hwpt.domain.peek(memory, IommufdObject.body.peek(memory, header) as Ref<'Hwpt'>));
  if (iotlbId >= iotlbWords || MockNested.iotlb.get(memory, nested, iotlbId) >>> 0 !== iotlb) fail('EINVAL', `word ${iotlbId} is another`);
}

/** DEV_CHECK_CACHE. ENOENT, EINVAL. */
export function devCheckCache(kernel: Kernel, iommufd: Ref<'Iommufd'>, { id, cacheId, cache }: DevCheckCache): void {
  const memory = kernel.memory;
  const pci = IommufdDevice.device.peek(memory, getDevice(kernel, iommufd, id));
  const mock = mockDeviceOf(memory, PciDevice.function.peek(memory, pci));
  if (cacheId >= cacheWords || MockDevice.cache.get(memory, mock, cacheId) >>> 0 !== cache) fail('EINVAL', `cache word ${cacheId} is another`);
}

/** SET_TEMP_MEMORY_LIMIT: how much the kernel reads ahead in one step, which nobody sees here. EINVAL below one entry. */
export function setTempMemoryLimit(_kernel: Kernel, _iommufd: Ref<'Iommufd'>, { limit }: SetTempMemoryLimit): void {
  if (limit < 12) fail('EINVAL', 'an entry has 12 bytes');
}

/**
 * DIRTY: a device's writes to the pages whose bits are set; `outNrDirty` counts the bits, of pages that are not mapped too. EINVAL, ENOENT,
 * EINVAL while nobody tracks, EFAULT.
 */
export function markDirty(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: MarkDirty): void {
  const { iova, length, pageSize, bitmap } = arg;
  const misaligned = pageSize === 0n || length === 0n || iova % pageSize !== 0n || length % pageSize !== 0n;
  if (misaligned || bitmap === null) fail('EINVAL', 'not aligned, or no bitmap');
  const domain = getDomain(kernel, iommufd, arg.id);
  if (kernel.driver.tracksWrites?.(domain) !== true) fail('EINVAL', 'the domain does not track what is written');
  checkReadable(arg, Number((length / pageSize + 7n) / 8n));
  let dirty = 0;
  for (let bit = 0; BigInt(bit) < length / pageSize; bit++) {
    if (((bitmap[bit >>> 3] ?? 0) & (1 << (bit & 7))) === 0) continue;
    kernel.driver.markWritten?.(domain, iova + BigInt(bit) * pageSize);
    dirty++;
  }
  arg.outNrDirty = dirty;
}
