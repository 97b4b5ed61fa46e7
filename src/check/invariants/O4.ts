/** O4, lifetime order: what an object lies in, or stands for, is there as long as the object. */
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import type { Word } from '#hostmem/struct';
import { Access } from '../../kernel/access.ts';
import { EventQueue } from '../../kernel/event-queue.ts';
import { DeviceGoes } from '../../kernel/events.ts';
import { FaultQueue } from '../../kernel/fault-queue.ts';
import { HwQueue } from '../../kernel/hw-queue.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { Iommufd, IommufdObject, Kind, kindNames, type ObjectRef } from '../../kernel/objects.ts';
import { Vdevice } from '../../kernel/vdevice.ts';
import { Viommu } from '../../kernel/viommu.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { accessesOf, contexts, nameOf, objects } from '../records.ts';
import { isLive } from '../references.ts';
import type { View } from '../view.ts';

/** A record behind an object. */
interface Body<T extends string> {
  readonly header: Word<ObjectRef>;
  check(memory: Memory, ref: Ref<T>): void;
}

/** A field of the records of one kind that refers to what outlives them, null where there is none. */
interface Edge {
  readonly of: Kind;
  readonly field: Word<Ref>;
  readonly target: Kind;
  readonly body: Body<string>;
}

const edges: readonly Edge[] = [
  { of: Kind.VDEVICE, field: Vdevice.viommu, target: Kind.VIOMMU, body: Viommu },
  { of: Kind.EVENT_QUEUE, field: EventQueue.viommu, target: Kind.VIOMMU, body: Viommu },
  { of: Kind.HW_QUEUE, field: HwQueue.viommu, target: Kind.VIOMMU, body: Viommu },
  { of: Kind.HW_QUEUE, field: HwQueue.access, target: Kind.HW_QUEUE_ACCESS, body: Access },
  { of: Kind.HW_QUEUE, field: HwQueue.before, target: Kind.HW_QUEUE, body: HwQueue },
  { of: Kind.VIOMMU, field: Viommu.hwpt, target: Kind.HWPT, body: Hwpt },
  { of: Kind.NESTED_HWPT, field: Hwpt.viommu, target: Kind.VIOMMU, body: Viommu },
  { of: Kind.NESTED_HWPT, field: Hwpt.parent, target: Kind.HWPT, body: Hwpt },
  { of: Kind.NESTED_HWPT, field: Hwpt.faultQueue, target: Kind.FAULT_QUEUE, body: FaultQueue },
  { of: Kind.HWPT, field: Hwpt.faultQueue, target: Kind.FAULT_QUEUE, body: FaultQueue },
  { of: Kind.HWPT, field: Hwpt.ioas, target: Kind.IOAS, body: Ioas },
];

export default invariant<null>({
  id: 'O4',
  claim: 'a vdevice does not outlive its device, nor a vdevice, queue or nested HWPT its vIOMMU, nor a vIOMMU its nest parent, nor an HWPT its IOAS',
  events: [],
  start: () => null,
  step: () => null,
  inspectAfter: [DeviceGoes],
  inspect(_state, view) {
    for (const iommufd of contexts(view)) {
      for (const target of objects(view, iommufd)) {
        const found = ofObject(view, iommufd, target);
        if (found !== null) return found;
      }
    }
    return null;
  },
});

function ofObject(view: View, iommufd: Ref<'Iommufd'>, owner: ObjectRef): Breach | null {
  const memory = view.host.kernel;
  const kind = IommufdObject.kind.peek(memory, owner);
  const record = IommufdObject.body.peek(memory, owner) as Ref;
  for (const { of, field, target, body } of edges) {
    const ref = of === kind ? (field.peek(memory, record) as Ref) : NULL;
    if (ref === NULL || isThere(view, iommufd, body, ref)) continue;
    return breach(`${nameOf(view, owner)} is there, its ${kindNames[target]} is not`);
  }
  if (kind === Kind.VIOMMU) return ofVdevices(view, iommufd, record as Ref<'Viommu'>);
  const isAccess = kind === Kind.ACCESS || kind === Kind.HW_QUEUE_ACCESS;
  return isAccess ? ofAccess(view, owner, record as Ref<'Access'>) : null;
}

/** Of vdevices also one that somebody is making or destroying: until it has left its vIOMMU, it names its device. */
function ofVdevices(view: View, iommufd: Ref<'Iommufd'>, viommu: Ref<'Viommu'>): Breach | null {
  const memory = view.host.kernel;
  for (let at = Viommu.vdevices.peek(memory, viommu); at !== NULL; at = Vdevice.next.peek(memory, at)) {
    if (isThere(view, iommufd, IommufdDevice, Vdevice.device.peek(memory, at))) continue;
    return breach(`${nameOf(view, Vdevice.header.peek(memory, at))} stands for a device that is unbound`);
  }
  return null;
}

function ofAccess(view: View, owner: ObjectRef, access: Ref<'Access'>): Breach | null {
  const ioas = Access.ioas.peek(view.host.kernel, access);
  if (ioas === NULL || accessesOf(view, ioas).includes(access)) return null;
  return breach(`${nameOf(view, owner)} is attached to an IOAS that does not know of it`);
}

/** Live, and found by its id. */
function isThere<T extends string>(view: View, iommufd: Ref<'Iommufd'>, body: Body<T>, ref: Ref<T>): boolean {
  const memory = view.host.kernel;
  if (!isLive(memory, body, ref)) return false;
  const header = body.header.peek(memory, ref);
  return isLive(memory, IommufdObject, header) && Iommufd.objects.getLocked(memory, iommufd, IommufdObject.id.peek(memory, header)) === header;
}
