/** What user space hands through to a driver, read as the kernel's own helpers do (include/linux/iommufd.h): lengths are judged first, then it is copied. */
import { fail, type ErrnoName } from '../kernel/errno.ts';
import type { Invalidations, UserData } from './driver.ts';

/** A struct of `least` to `most` bytes, zeros behind what there is of it (`iommu_copy_struct_from_user`). EINVAL for another length, EFAULT. */
export function copyStruct({ bytes, absent = false }: UserData, least: number, most: number): Uint8Array {
  if (bytes.length < least || bytes.length > most) fail('EINVAL', `${bytes.length} bytes of data, ${least} to ${most} are known`);
  if (absent) fail('EFAULT', 'the data cannot be read');
  const struct = new Uint8Array(most);
  struct.set(bytes);
  return struct;
}

/**
 * All entries, before any is looked at (`iommu_copy_struct_from_full_user_array`): each of `knownBytes`, whatever length the user's have; the rest of a shorter one
 * is 0. EFAULT, E2BIG for one with more in it.
 */
export function copyEntries({ entryBytes, count, bytes }: Invalidations, knownBytes: number): Uint8Array | ErrnoName {
  const entries = new Uint8Array(count * knownBytes);
  for (let entry = 0; entry < count; entry++) {
    if ((entry + 1) * entryBytes > bytes.length) return 'EFAULT';
    const own = bytes.subarray(entry * entryBytes, (entry + 1) * entryBytes);
    if (own.subarray(knownBytes).some((byte) => byte !== 0)) return 'E2BIG';
    entries.set(own.subarray(0, knownBytes), entry * knownBytes);
  }
  return entries;
}
