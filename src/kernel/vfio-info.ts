/** What a VFIO device tells of itself, and its reset: an edu device behind vfio-pci (drivers/vfio/pci/vfio_pci_core.c). */
import type { Ref } from '#hostmem/object';
import { checkArgsz, respond, type Argsized } from './argument.ts';
import { fail } from './errno.ts';
import type { Kernel } from './kernel.ts';
import { granted } from './vfio.ts';

export interface VfioDeviceInfo extends Argsized { flags: number; numRegions: number; numIrqs: number }
export interface VfioRegionInfo extends Argsized { flags: number; index: number; size: bigint; offset: bigint }

/** VFIO_DEVICE_FLAGS_PCI; RESET is absent. */
const PCI_DEVICE = 2;
const REGIONS = 9;
const IRQS = 5;
const BAR0 = 0;
const CONFIGURATION = 7;
/** Regions from here on are no PCI device's, or need a legacy VGA device. */
const VGA = 8;

/** Size of an edu device's BAR 0. */
export const barBytes = 0x100000n;

const RegionFlag = { READ: 1, WRITE: 2, MMAP: 4 } as const;

/** VFIO_DEVICE_GET_INFO. EINVAL, EFAULT. */
export function vfioDeviceInfo(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioDeviceInfo): void {
  granted(kernel, file);
  checkArgsz(arg, 16);
  respond(kernel, arg);
  arg.flags = PCI_DEVICE;
  arg.numRegions = REGIONS;
  arg.numIrqs = IRQS;
}

/** VFIO_DEVICE_GET_REGION_INFO: BAR 0 and the configuration space; other regions are empty. EINVAL, EFAULT. */
export function vfioRegionInfo(kernel: Kernel, file: Ref<'VfioFile'>, arg: VfioRegionInfo): void {
  granted(kernel, file);
  checkArgsz(arg, 32);
  if (arg.index >= VGA) fail('EINVAL', `there is no region ${arg.index}`);
  const { flags, size } = regions[arg.index] ?? { flags: 0, size: 0n };
  respond(kernel, arg);
  arg.flags = flags;
  arg.size = size;
  arg.offset = BigInt(arg.index) << 40n;
}

const regions: { readonly [index: number]: { readonly flags: number; readonly size: bigint } } = {
  [BAR0]: { flags: RegionFlag.READ | RegionFlag.WRITE | RegionFlag.MMAP, size: barBytes },
  [CONFIGURATION]: { flags: RegionFlag.READ | RegionFlag.WRITE, size: 0x100n },
};

/** VFIO_DEVICE_RESET: the device has no method of reset. EINVAL. */
export function vfioReset(kernel: Kernel, file: Ref<'VfioFile'>): void {
  granted(kernel, file);
  fail('EINVAL', 'the device has no method of reset');
}
