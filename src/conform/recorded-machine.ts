/** The machine that `traces/vfio` was recorded on (TRACES.md, "a real group on real IOMMU code"), built anew for each recording. */
import { basename } from 'node:path';
import { bridge, endpoint, multiFunction, type PciBus } from '../kernel/pci.ts';
import { World } from '../world.ts';

/** What the recordings do not touch has no name; its group is the first. */
const rootBus: PciBus = {
  1: endpoint(null),
  4: bridge('PCIe-to-PCI bridge', { 1: endpoint('g2d1'), 2: endpoint('g2d2'), 3: endpoint('g2d3') }),
  5: multiFunction(['g1d1', 'g1d2', 'g1d3']),
  6: endpoint('lone1'),
};

/** The devices by the numbers of their character devices. */
export const recordedDevices: readonly string[] = ['g1d1', 'g1d2', 'g1d3', 'lone1', 'g2d1', 'g2d2', 'g2d3'];

/** How the machine was set up, as the recording's name says. */
export interface Setup {
  /** Its IOMMU, or the kernel's mock driver and no group on real hardware. */
  readonly iommu: 'vtd-legacy' | 'vtd-scalable' | 'amd' | 'mock';
  /** Booted with `intremap=off`. */
  readonly unsafeInterrupts: boolean;
}

/** `scalable.vfio_group.mf.attach_both.jsonl`, `K8_attach_and_probe.vtd-scalable.mf.jsonl` ... */
export function setupOf(file: string): Setup {
  const name = basename(file);
  const isMock = /^(selftest|edge|iommufd|vfio_compat|change_process)|(^|[.-])mock[.-]/.test(name);
  const isAmd = /(^|[.-])amd[.-]/.test(name);
  const isScalable = /(^|[.-])scalable\./.test(name);
  return { iommu: isMock ? 'mock' : isAmd ? 'amd' : isScalable ? 'vtd-scalable' : 'vtd-legacy', unsafeInterrupts: name.includes('intremap') };
}

export function recordedMachine({ iommu, unsafeInterrupts }: Setup): World {
  const world = new World({ iommu, ramBytes: 16 << 20, kernelBytes: 4 << 20 });
  world.pci(rootBus);
  if (unsafeInterrupts) world.leaveInterruptsUnsafe();
  return world;
}
