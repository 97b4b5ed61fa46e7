/**
 * The functions that a variant may replace, as Linux 7.2 has them. A variant differs from this table in one function.
 */
import type { Ref } from '#hostmem/object';
import type { Frame } from '#hostmem/memory';
import { holdAsked } from './access.ts';
import { pinThroughAccess } from './access-pin.ts';
import { claimOwner, unuseDefaultDomain, useDefaultDomain } from './dma-owner.ts';
import { fail } from './errno.ts';
import { queueIova } from './dma-iommu.ts';
import { destroyEventQueue } from './event-queue.ts';
import { destroyFaultQueue } from './fault-queue.ts';
import { tryAutomatic, type Changed, type SlotChange } from './change-pt.ts';
import { faultsOf72, type FaultsOf72 } from './faults-of-72.ts';
import { flushConverted } from './flush-converted.ts';
import { enterTrusted, fillBounce, hasNoMappings } from './guest-dma.ts';
import { amdOperations, type AmdOperations } from '../drivers/amd/operations.ts';
import { riscvOperations, type RiscvOperations } from '../drivers/riscv/operations.ts';
import { smmuOperations, type SmmuOperations } from '../drivers/smmuv3/operations.ts';
import { vtdOperations, type VtdOperations } from '../drivers/vtd/operations.ts';
import type { Kernel } from './kernel.ts';
import { destroyHwQueue } from './hw-queue.ts';
import { destroyHwpt } from './hwpt.ts';
import { destroyNestedHwpt } from './hwpt-nested.ts';
import { destroyIoas } from './ioas.ts';
import { admitMove, idleDomain, moveMembers } from './iommu-group.ts';
import { fillAndPublish, resumeUnmap } from './iopt.ts';
import { emptyArea } from './iopt-fill.ts';
import { abortFile } from './object-file.ts';
import { setKvm } from './kvm-vfio.ts';
import { removeObject } from './objects.ts';
import { unpinUnfilled, type Copy } from './pages.ts';
import { mayUse } from './mdev.ts';
import { authorisePasid, doPasidWork, requestPasid, revokePasid } from './pasid-authority.ts';
import { unbindProcess } from './process-pasid.ts';
import { TBitPolicy, type Request, type RequestScope } from '../drivers/tsm/link-tsm.ts';
import { bindInterface, guestRequest, releaseInterface } from './tsm.ts';
import { keepBack } from './tvm.ts';
import { destroyVdevice, holdDevice, letDeviceGo, removeVdevice } from './vdevice.ts';
import { destroyViommu } from './viommu.ts';
import { attach, detach, leaveHwpt, replace } from './iommufd-attach.ts';
import { deliver, drain, movePasidRequests } from './iopf.ts';
import { destroyDevice } from './iommufd-device.ts';

/** The lives of objects: DESTROY, taking back what was never published, and destructors by kind. */
export interface ObjectOperations {
  /** ENOENT, EBUSY. */
  remove(kernel: Kernel, iommufd: Ref<'Iommufd'>, id: number): void;
  /** Closes the file of an object that is about to be taken back. */
  abortFile(kernel: Kernel, file: Ref<'File'>): void;
  destroyIoas(kernel: Kernel, ioas: Ref<'Ioas'>): void;
  destroyHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void;
  destroyDevice(kernel: Kernel, device: Ref<'IommufdDevice'>): void;
  destroyFaultQueue(kernel: Kernel, queue: Ref<'FaultQueue'>): void;
  destroyNestedHwpt(kernel: Kernel, hwpt: Ref<'Hwpt'>): void;
  destroyViommu(kernel: Kernel, viommu: Ref<'Viommu'>): void;
  destroyVdevice(kernel: Kernel, vdevice: Ref<'Vdevice'>): void;
  destroyEventQueue(kernel: Kernel, queue: Ref<'EventQueue'>): void;
  destroyHwQueue(kernel: Kernel, queue: Ref<'HwQueue'>): void;
}

/** Who may use a group, and what it translates through. The caller of the last three holds its mutex. */
export interface GroupOperations {
  /** EPERM, EBUSY, EINVAL. */
  claimOwner(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): void;
  /** EBUSY, EPROBE_DEFER. */
  useDefaultDomain(kernel: Kernel, device: Ref<'PciDevice'>): void;
  unuseDefaultDomain(kernel: Kernel, device: Ref<'PciDevice'>): void;
  /** What the group has when nothing is attached and that owner, or nobody (0), owns it. */
  idleDomain(kernel: Kernel, group: Ref<'IommuGroup'>, owner: number): Ref<'IommuDomain'>;
  /** Whether the group moves, which a reset may forbid. EBUSY. */
  admitMove(kernel: Kernel, group: Ref<'IommuGroup'>, how: number): boolean;
  /** All or none; what a member says. */
  moveMembers(kernel: Kernel, group: Ref<'IommuGroup'>, old: Ref<'IommuDomain'>, domain: Ref<'IommuDomain'>): void;
}

/** How a device joins, moves and leaves its group's attachment. */
export interface AttachOperations {
  attach(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): void;
  /** Returns the HWPT whose last user the caller drops, or null. */
  replace(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>): Ref<'Hwpt'>;
  detach(kernel: Kernel, device: Ref<'IommufdDevice'>): Ref<'Hwpt'>;
  /** Tries an automatic HWPT of the IOAS that is asked for; null: the next one. The caller holds `Ioas.mutex`. */
  tryAutomatic(kernel: Kernel, device: Ref<'IommufdDevice'>, hwpt: Ref<'Hwpt'>, asked: SlotChange): Changed | null;
}

/** How an IOAS's translations enter a domain and leave it. */
export interface IoptOperations {
  /** Fills every domain with placed areas and makes them mappings. EFAULT, ENOMEM. */
  fillAndPublish(kernel: Kernel, ioas: Ref<'Ioas'>, areas: readonly Ref<'Area'>[]): void;
  /** Where an unmap from `start` on looks next, having removed an area that ended at `areaLast`. */
  resumeUnmap(start: bigint, areaLast: bigint): bigint;
  /** Clears one domain's entries of an area and lets its pages go. The caller holds the pages' mutex. */
  emptyArea(kernel: Kernel, domain: Ref<'IommuDomain'>, area: Ref<'Area'>): void;
}

/** Which pages are let go when a domain or an access has no use for them any more. */
export interface PagesOperations {
  /** Unpins those of `[first, end)` that nobody is filled with. The caller holds `Pages.mutex`. */
  unpinUnfilled(kernel: Kernel, pages: Ref<'Pages'>, frames: Ref<'Run'>, first: number, end: number): void;
}

/** The kernel's own ways into an IOAS. */
export interface AccessOperations {
  /** Returns the frames. EINVAL, EOVERFLOW, ENOENT, EPERM, EFAULT, ENOMEM. */
  pin(kernel: Kernel, access: Ref<'Access'>, iova: bigint, length: bigint, way: Copy): Frame[];
  /** The accesses of an IOAS that are to be asked to let go of pages, each held as within a call. */
  holdAsked(kernel: Kernel, ioas: Ref<'Ioas'>): Ref<'Access'>[];
}

/** What a vdevice and its device have of each other. */
export interface VdeviceOperations {
  /** A new vdevice keeps both counts of the device, which its call has got. */
  holdDevice(kernel: Kernel, device: Ref<'IommufdObject'>): void;
  /** The vdevice is gone. */
  letDeviceGo(kernel: Kernel, device: Ref<'IommufdObject'>): void;
  /** The device is about to go. */
  remove(kernel: Kernel, device: Ref<'IommufdDevice'>): void;
}

/** What the core asks of the IOMMU driver for one member of a group. */
export interface DriverOperations {
  attach(kernel: Kernel, domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): void;
}

/** How the DMA API puts off flushes. */
export interface DmaOperations {
  queueIova(kernel: Kernel, dma: Ref<'DmaDomain'>, page: number, pages: number): void;
}

/** The way of page requests from the hardware's queue to a user's. */
export interface IopfOperations {
  /** The handler of who has the device attached takes a request over. */
  deliver(kernel: Kernel, device: Ref<'PciDevice'>, queue: Ref<'FaultQueue'>, request: Ref<'PageRequest'>): void;
  /** Whoever takes requests away from a handler hands it what has come before, and says by which stamp. Under `pageRequestLock`. */
  drain(kernel: Kernel, pciFunction: Ref<'PciFunction'>, pasid: number | null): number;
  /** A replace: the members' requests go to the new HWPT, those left with the old one are answered. Under `IommufdGroup.lock`. */
  leave(kernel: Kernel, group: Ref<'IommufdGroup'>, old: Ref<'Hwpt'>, hwpt: Ref<'Hwpt'>): void;
  /** A PASID's requests go from an HWPT to another, either of which may be none; those left with the old one are answered. Under `IommufdGroup.lock`. */
  movePasid(kernel: Kernel, share: Ref<'PasidAttachment'>, old: Ref<'Hwpt'>, hwpt: Ref<'Hwpt'>): void;
}

/** What KVM tells VFIO. */
export interface KvmOperations {
  setKvm(kernel: Kernel, device: Ref<'VfioDevice'>, kvm: Ref<'Kvm'>): void;
}

/** PASIDs of processes, and who may reach what by a PASID. */
export interface PasidOperations {
  /** Takes a bond away, by the device's open file. */
  unbind(kernel: Kernel, file: Ref<'VfioFile'>): void;
  /** A number for the device. ENOSPC. */
  request(kernel: Kernel, file: Ref<'VfioFile'>, wanted: number): number;
  /** Lets the device reach an HWPT under the number. EPERM, and as `vfioAttach`. */
  authorise(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number, ptId: number): void;
  /** Takes it back. EPERM. */
  revoke(kernel: Kernel, file: Ref<'VfioFile'>, pasid: number): void;
  /** Whether a share of a device may use the number. */
  mayUse(kernel: Kernel, mdev: Ref<'Mdev'>, pasid: number): boolean;
  /** What the others have put off. */
  work(kernel: Kernel): void;
}

/** The core's calls of a security manager for devices. */
export interface TsmOperations {
  /** EINVAL, EBUSY, ENOMEM. */
  bind(kernel: Kernel, device: Ref<'PciDevice'>, tvm: Ref<'Tvm'>, tdiId: number): void;
  /** EINVAL, ENXIO, EIO. */
  guestRequest(kernel: Kernel, device: Ref<'PciDevice'>, scope: RequestScope, what: Request): void;
  /** A user's DEVICE is about to go. */
  release(kernel: Kernel, device: Ref<'PciDevice'>): void;
}

/** Confidential guests: what the T bit means on this host, when a device may change it, and how a page changes its role. */
export interface ConfidentialOperations {
  policy(): TBitPolicy;
  /** Whether a device may go to T = 1 with what its driver has mapped. The caller holds `GuestDma.lock`. */
  mayFlip(kernel: Kernel, dma: Ref<'GuestDma'>): boolean;
  /** EBUSY, ENXIO, EIO. */
  enterTrusted(kernel: Kernel, dma: Ref<'GuestDma'>): void;
  /** Between the block of a page and its new role. The caller holds `Tvm.conversion`. */
  flushConverted(kernel: Kernel, tvm: Ref<'Tvm'>, page: number): void;
  /** What a bounce page holds when it begins to stand for a page. The caller holds `GuestDma.lock`. */
  fillBounce(kernel: Kernel, dma: Ref<'GuestDma'>, bounce: number, page: number): void;
  /** What becomes of pages whose conversion failed midway. */
  giveUp(kernel: Kernel, tvm: Ref<'Tvm'>, first: number, count: number): void;
}

/** A virtual IOMMU at a wait of its guest's queue: what it can do about it. */
export interface QueueServer {
  /** Hands the invalidations that the guest has queued before it to the kernel. */
  forward(): void;
  /** Writes the status that the guest waits for. */
  complete(): void;
}

/** The tables of a guest's device, as its vIOMMU sees to them. */
export interface TableServer {
  /** Has the device go through the tables that the guest's PASID entry names now. */
  enterTables(): void;
}

/** What a VMM's virtual IOMMU does for its guest. */
export interface ViommuOperations {
  finishWait(server: QueueServer): void;
  /** The guest has changed its PASID entry, and says so. */
  dropPasidEntry(server: TableServer): void;
}

export interface Operations {
  readonly objects: ObjectOperations;
  readonly group: GroupOperations;
  readonly attach: AttachOperations;
  readonly iopt: IoptOperations;
  readonly pages: PagesOperations;
  readonly access: AccessOperations;
  readonly vdevice: VdeviceOperations;
  readonly driver: DriverOperations;
  readonly tsm: TsmOperations;
  readonly confidential: ConfidentialOperations;
  readonly dma: DmaOperations;
  readonly pasid: PasidOperations;
  readonly kvm: KvmOperations;
  readonly iopf: IopfOperations;
  readonly viommu: ViommuOperations;
  /** The functions of the drivers. */
  readonly vtd: VtdOperations;
  readonly amd: AmdOperations;
  readonly smmuv3: SmmuOperations;
  readonly riscv: RiscvOperations;
  readonly faults: FaultsOf72;
}

export const linux72: Operations = Object.freeze({
  objects: Object.freeze({
    remove: removeObject, abortFile,
    destroyIoas, destroyHwpt, destroyDevice, destroyFaultQueue, destroyNestedHwpt, destroyViommu, destroyVdevice, destroyEventQueue, destroyHwQueue,
  }),
  group: Object.freeze({ claimOwner, useDefaultDomain, unuseDefaultDomain, idleDomain, admitMove, moveMembers }),
  attach: Object.freeze({ attach, replace, detach, tryAutomatic }),
  iopt: Object.freeze({ emptyArea, fillAndPublish, resumeUnmap }),
  pages: Object.freeze({ unpinUnfilled }),
  access: Object.freeze({ pin: pinThroughAccess, holdAsked }),
  vdevice: Object.freeze({ holdDevice, letDeviceGo, remove: removeVdevice }),
  driver: Object.freeze({
    attach(kernel: Kernel, domain: Ref<'IommuDomain'>, pciFunction: Ref<'PciFunction'>): void {
      const problem = kernel.driver.attach(domain, pciFunction);
      if (problem !== 0) fail(problem, 'the driver refuses the domain for the device');
    },
  }),
  tsm: Object.freeze({ bind: bindInterface, guestRequest, release: releaseInterface }),
  // Nothing of this is merged in 7.2: what V1 would allow, a switch without live mappings.
  confidential: Object.freeze({ policy: () => TBitPolicy.BYPASS, mayFlip: hasNoMappings, enterTrusted, flushConverted, fillBounce, giveUp: keepBack }),
  dma: Object.freeze({ queueIova }),
  kvm: Object.freeze({ setKvm }),
  iopf: Object.freeze({ deliver, drain, leave: leaveHwpt, movePasid: movePasidRequests }),
  viommu: Object.freeze({
    finishWait(server: QueueServer): void {
      server.forward();
      server.complete();
    },
    dropPasidEntry(server: TableServer): void {
      server.enterTables();
    },
  }),
  pasid: Object.freeze({ unbind: unbindProcess, request: requestPasid, authorise: authorisePasid, revoke: revokePasid, mayUse, work: doPasidWork }),
  vtd: Object.freeze({ ...vtdOperations }),
  amd: Object.freeze({ ...amdOperations }),
  smmuv3: Object.freeze({ ...smmuOperations }),
  riscv: Object.freeze({ ...riscvOperations }),
  faults: faultsOf72,
});
