/**
 * Dirty tracking of an HWPT (`iommufd_hwpt_set_dirty_tracking`, `iommufd_hwpt_get_dirty_bitmap`), checks in the kernel's order.
 *
 * No IOMMU here can track: HWPT_ALLOC refuses the flag, so that every call on an HWPT ends in EOPNOTSUPP at the latest.
 */
import type { Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { Hwpt } from './hwpt.ts';
import { Ioas } from './ioas.ts';
import type { Kernel } from './kernel.ts';
import { getObject, IommufdObject, Kind } from './objects.ts';
import { U64_MAX } from './u64.ts';

export interface SetDirtyTracking { flags: number; hwptId: number }
export interface GetDirtyBitmap { hwptId: number; flags: number; reserved?: number; iova: bigint; length: bigint; pageSize: bigint }

const ENABLE = 1;
const NO_CLEAR = 1;

function getHwpt(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): Ref<'Hwpt'> {
  return IommufdObject.body.peek(kernel.memory, kernel.hold(getObject(kernel, iommufd, id, Kind.HWPT))) as Ref<'Hwpt'>;
}

/** EOPNOTSUPP, ENOENT. The reserved field is not examined in 7.2. */
export function setDirtyTracking(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: SetDirtyTracking): void {
  if ((arg.flags & ~ENABLE) !== 0) fail('EOPNOTSUPP', `unknown flags 0x${arg.flags.toString(16)}`);
  getHwpt(kernel, iommufd, arg.hwptId);
  fail('EOPNOTSUPP', 'the HWPT was made without dirty tracking');
}

/** EOPNOTSUPP, ENOENT, EOVERFLOW, EINVAL. */
export function getDirtyBitmap(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: GetDirtyBitmap): void {
  if ((arg.flags & ~NO_CLEAR) !== 0 || (arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'unknown flags or a reserved field');
  const hwpt = getHwpt(kernel, iommufd, arg.hwptId);
  const end = (arg.iova + arg.length) & U64_MAX;
  const wraps = arg.length === 0n ? arg.iova !== 0n : arg.iova + arg.length - 1n > U64_MAX;
  if (wraps) fail('EOVERFLOW', 'iova + length wraps');
  const alignment = alignmentOf(kernel, Hwpt.ioas.peek(kernel.memory, hwpt));
  if (arg.iova % alignment !== 0n || end % alignment !== 0n) fail('EINVAL', `the range is not aligned to ${alignment}`);
  if (arg.pageSize === 0n) fail('EINVAL', 'the page size is 0');
  if (((arg.iova | end) & (arg.pageSize - 1n)) !== 0n) fail('EINVAL', 'the range is not aligned to the page size');
  fail('EOPNOTSUPP', 'the HWPT was made without dirty tracking');
}

function alignmentOf(kernel: Kernel, ioas: Ref<'Ioas'>): bigint {
  Ioas.iovaRwsem.acquireRead(kernel.memory, ioas);
  const alignment = Ioas.alignment.read(kernel.memory, ioas);
  Ioas.iovaRwsem.releaseRead(kernel.memory, ioas);
  return BigInt(alignment);
}
