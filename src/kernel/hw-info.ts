/** IOMMU_GET_HW_INFO (`iommufd_get_hw_info`): what the IOMMU in front of a device can do, as its driver tells it. */
import type { Ref } from '#hostmem/object';
import type { HwInfo } from '../drivers/driver.ts';
import { checkWritable, respond, type TailField, type UserBuffer } from './argument.ts';
import { fail } from './errno.ts';
import { PciDevice } from './iommu-group.ts';
import { getDevice, IommufdDevice } from './iommufd-device.ts';
import type { Kernel } from './kernel.ts';
import { big } from './u64.ts';

/** The user asks for a type instead of taking the default. */
const INPUT_TYPE = 1;

export interface GetHwInfo extends UserBuffer {
  flags: number;
  devId: number;
  reserved?: number;
  /** In: room for data, in bytes. Out: how long the kernel's data are. */
  dataLength: number;
  /** With `INPUT_TYPE` in: the type wanted. Out: the type of the data. */
  dataType: number;
  /** Out: as many bytes as there was room for, zeros behind the kernel's. */
  data?: Uint8Array;
  outMaxPasidLog2: number;
  outCapabilities: bigint;
}

export const getHwInfoTail: readonly TailField[] = [{ name: 'outCapabilities', offset: 32, bytes: 8 }];

/** EOPNOTSUPP, ENOENT, EFAULT. */
export function getHwInfo(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: GetHwInfo): void {
  if ((arg.flags & ~INPUT_TYPE) !== 0 || (arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'unknown flags or a reserved field');
  const device = getDevice(kernel, iommufd, arg.devId);
  const pci = IommufdDevice.device.peek(kernel.memory, device);
  const info = infoOf(kernel, PciDevice.function.peek(kernel.memory, pci), (arg.flags & INPUT_TYPE) === 0 ? 0 : arg.dataType);
  const bytes = bytesOf(info);
  checkWritable(arg, arg.dataLength);
  respond(kernel, arg);
  arg.data = new Uint8Array(arg.dataLength);
  arg.data.set(bytes.subarray(0, arg.dataLength));
  arg.dataLength = bytes.length;
  arg.dataType = info.type;
  arg.outMaxPasidLog2 = info.maxPasidLog2;
  arg.outCapabilities = big(0, info.capabilities);
}

/** Of the type that the user wants; 0 leaves it to the driver. EOPNOTSUPP. */
function infoOf(kernel: Kernel, pciFunction: Ref<'PciFunction'>, wanted: number): HwInfo {
  const own = kernel.driver.hwInfo(pciFunction);
  if (wanted === 0 || wanted === own.type) return own;
  return kernel.driver.hwInfoOf?.(pciFunction, wanted) ?? fail('EOPNOTSUPP', `the driver has no data of type ${wanted}`);
}

/** `flags`, the register or four reserved bytes, where there are such; then the words, little-endian. */
function bytesOf({ flags, register = 0, words }: HwInfo): Uint8Array {
  const head = flags === null ? 0 : 8;
  const bytes = new Uint8Array(head + words.length * 8);
  const view = new DataView(bytes.buffer);
  if (flags !== null) {
    view.setUint32(0, flags, true);
    view.setUint32(4, register, true);
  }
  words.forEach((word, index) => view.setBigUint64(head + index * 8, word, true));
  return bytes;
}
