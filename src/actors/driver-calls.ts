/** Calls of iommufd by drivers of the kernel that are not VFIO. */
import { callBegan, callEnded } from '../kernel/call-events.ts';
import { Change, changePt } from '../kernel/change-pt.ts';
import { Errno, errnoNumber, type ErrnoName } from '../kernel/errno.ts';
import { getDevice } from '../kernel/iommufd-device.ts';
import { putIommufd } from '../kernel/objects.ts';
import { getIommufd } from '../kernel/vfio.ts';
import type { Vm } from './vm.ts';

/** `iommufd_device_replace` by a driver that does not keep books of what it attached, as VFIO does: null, or the errno. */
export function replaceWithoutAttach({ kernel }: Vm, fd: number, deviceId: number, ioasId: number): ErrnoName | null {
  const number = callBegan(kernel, 'iommufd_device_replace');
  const iommufd = getIommufd(kernel, fd);
  let errno: ErrnoName | null = null;
  try {
    changePt(kernel, getDevice(kernel, iommufd, deviceId), ioasId, Change.REPLACE);
  } catch (error) {
    if (!(error instanceof Errno)) throw error;
    errno = error.name;
  }
  kernel.putHeld();
  putIommufd(kernel, iommufd);
  callEnded(kernel, number, errnoNumber(errno));
  return errno;
}
