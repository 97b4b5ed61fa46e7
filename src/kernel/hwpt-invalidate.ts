/** IOMMU_HWPT_INVALIDATE (`iommufd_hwpt_invalidate`): a guest's invalidations of a nested HWPT, or of all that a vIOMMU has. */
import type { Ref } from '#hostmem/object';
import type { Invalidations } from '../drivers/driver.ts';
import { respond, type UserBuffer } from './argument.ts';
import { fail, type ErrnoName } from './errno.ts';
import { Hwpt } from './hwpt.ts';
import type { Kernel } from './kernel.ts';
import { getObject, IommufdObject, Kind } from './objects.ts';
import { Viommu } from './viommu.ts';

export interface HwptInvalidate extends UserBuffer {
  hwptId: number;
  /** Null for a null pointer, absent for one to nothing. */
  data?: Uint8Array | null;
  dataType: number;
  entryLength: number;
  /** Out: how many were carried out, also when the call fails. */
  entryCount: number;
  reserved?: number;
}

/** Bytes of an entry, and how many entries, at the most. */
export const longestEntry = 4096;
export const mostEntries = 1 << 19;

/** EOPNOTSUPP, EINVAL, ENOENT, EFAULT, and what the driver says. */
export function hwptInvalidate(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: HwptInvalidate): void {
  const asked: Invalidations = {
    type: arg.dataType, entryBytes: arg.entryLength, count: arg.entryCount, bytes: (arg.data ?? new Uint8Array(0)).subarray(0, arg.readableBytes), handled: 0,
  };
  try {
    checkEntries(arg);
    const problem = carryOut(kernel, iommufd, arg, asked);
    if (problem !== 0) fail(problem, `the driver refuses entry ${asked.handled}`);
  } finally {
    respond(kernel, arg);
    arg.entryCount = asked.handled;
  }
}

function checkEntries({ reserved = 0, entryCount, entryLength, data }: HwptInvalidate): void {
  if (reserved !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  if (entryCount > 0 && (data === null || entryLength === 0)) fail('EINVAL', 'entries of no bytes, or none where there should be some');
  if (entryLength > longestEntry || entryCount > mostEntries) fail('EINVAL', 'entries too long, or too many');
}

function carryOut(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: HwptInvalidate, asked: Invalidations): 0 | ErrnoName {
  const { driver, memory } = kernel;
  const target = kernel.hold(getObject(kernel, iommufd, arg.hwptId, Kind.ANY));
  const kind = IommufdObject.kind.peek(memory, target);
  const body = IommufdObject.body.peek(memory, target);
  if (kind !== Kind.NESTED_HWPT && kind !== Kind.VIOMMU) fail('EINVAL', `object ${arg.hwptId} is neither a nested HWPT nor a vIOMMU`);
  const known = kind === Kind.NESTED_HWPT ? driver.invalidateNested !== undefined : driver.viommuInvalidate !== undefined;
  if (!known) fail('EOPNOTSUPP', 'the driver takes no invalidations');
  if (kind === Kind.NESTED_HWPT) return driver.invalidateNested!(Hwpt.domain.peek(memory, body as Ref<'Hwpt'>), asked);
  return driver.viommuInvalidate!(Viommu.driverData.peek(memory, body as Ref<'Viommu'>), asked);
}
