/** A device's page request finds the HWPT that it is for (`iommu_report_device_fault`, SEMANTICS E9). */
import { NULL, type Ref } from '#hostmem/object';
import { RID_SLOT } from './change-pt.ts';
import { queueRequest } from './fault-queue.ts';
import { Hwpt } from './hwpt.ts';
import { deviceId, IommufdDevice } from './iommufd-device.ts';
import { IommufdGroup } from './iommufd-group.ts';
import { PasidAttachment } from './iommufd-pasid.ts';
import type { Kernel } from './kernel.ts';
import { IommufdObject, Kind } from './objects.ts';

export interface DeviceRequest {
  /** Null: without a PASID. */
  readonly pasid: number | null;
  readonly group: number;
  readonly permissions: number;
  readonly address: bigint;
}

/** Queues the request. False when nobody takes it: the device is told that the address is invalid. */
export function reportPageRequest(kernel: Kernel, device: Ref<'IommufdDevice'>, request: DeviceRequest): boolean {
  const memory = kernel.memory;
  const group = IommufdDevice.group.peek(memory, device);
  IommufdGroup.lock.acquire(memory, group);
  const { hwpt, slot } = addressee(kernel, group, request.pasid);
  const queue = hwpt === NULL ? NULL : Hwpt.faultQueue.peek(memory, hwpt);
  const taken = queue !== NULL && queueRequest(kernel, queue, { device, deviceId: deviceId(kernel, device), slot, ...request });
  IommufdGroup.lock.release(memory, group);
  return taken;
}

/** What the PASID has, else what the RID has when a guest keeps the PASIDs there. Under the group's lock. */
function addressee(kernel: Kernel, group: Ref<'IommufdGroup'>, pasid: number | null): { readonly hwpt: Ref<'Hwpt'>; readonly slot: number } {
  const memory = kernel.memory;
  const ofRid = IommufdGroup.hwpt.read(memory, group);
  if (pasid === null) return { hwpt: ofRid, slot: RID_SLOT };
  let at: Ref<'PasidAttachment'> = IommufdGroup.pasids.read(memory, group);
  while (at !== NULL && PasidAttachment.pasid.peek(memory, at) !== pasid) at = PasidAttachment.next.read(memory, at);
  if (at !== NULL) return { hwpt: PasidAttachment.hwpt.read(memory, at), slot: pasid };
  const isNested = ofRid !== NULL && IommufdObject.kind.peek(memory, Hwpt.header.peek(memory, ofRid)) === Kind.NESTED_HWPT;
  return { hwpt: isNested ? ofRid : NULL, slot: RID_SLOT };
}
