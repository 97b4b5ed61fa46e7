/** O3, ids: what can be found is whole, no id is lost, and a destruction that must succeed does. */
import type { IdTable } from '#hostmem/id-table';
import type { Ref } from '#hostmem/object';
import type { Word } from '#hostmem/struct';
import { Access } from '../../kernel/access.ts';
import { EventQueue } from '../../kernel/event-queue.ts';
import { DestroyRefused } from '../../kernel/events.ts';
import { FaultQueue } from '../../kernel/fault-queue.ts';
import { HwQueue } from '../../kernel/hw-queue.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { Iommufd, IommufdObject, Kind, kindNames, type ObjectRef } from '../../kernel/objects.ts';
import { TestDevice } from '../../kernel/selftest/test-device.ts';
import { Vdevice } from '../../kernel/vdevice.ts';
import { Viommu } from '../../kernel/viommu.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { contexts, nameOf } from '../records.ts';
import type { View } from '../view.ts';

/** Where the body of each kind names its object. */
const headers: Readonly<Partial<Record<Kind, Word<ObjectRef>>>> = {
  [Kind.IOAS]: Ioas.header, [Kind.HWPT]: Hwpt.header, [Kind.NESTED_HWPT]: Hwpt.header, [Kind.DEVICE]: IommufdDevice.header,
  [Kind.FAULT_QUEUE]: FaultQueue.header, [Kind.VIOMMU]: Viommu.header, [Kind.VDEVICE]: Vdevice.header, [Kind.EVENT_QUEUE]: EventQueue.header,
  [Kind.HW_QUEUE]: HwQueue.header, [Kind.HW_QUEUE_ACCESS]: Access.header, [Kind.ACCESS]: Access.header, [Kind.SELFTEST]: TestDevice.header,
};

export default invariant<null>({
  id: 'O3',
  claim: 'an id names a whole object of its own context, at rest none is taken for nothing, and an owner that destroys its object finds no other users',
  events: [DestroyRefused],
  start: () => null,
  step(_state, event) {
    const name = `${kindNames[DestroyRefused.get.kind(event)]} ${DestroyRefused.get.id(event)}`;
    return breach(`the owner of ${name} destroys it, which cannot fail, and finds ${DestroyRefused.get.users(event)} users`);
  },
  inspect(_state, view) {
    const table: IdTable = Iommufd.objects;
    const memory = view.host.kernel;
    for (const iommufd of contexts(view)) {
      for (let id = table.nextLocked(memory, iommufd, 0); id !== 0; id = table.nextLocked(memory, iommufd, id)) {
        const found = compare(view, iommufd, id, table.getLocked(memory, iommufd, id) as ObjectRef);
        if (found !== null) return found;
      }
      const lost = table.reservedLocked(memory, iommufd);
      if (lost !== 0) return breach(`${lost} ids are taken and name nothing, while nobody is inside a call`);
    }
    return null;
  },
});

function compare(view: View, iommufd: Ref<'Iommufd'>, id: number, target: ObjectRef): Breach | null {
  const memory = view.host.kernel;
  const kind = IommufdObject.kind.peek(memory, target) as Kind;
  if (IommufdObject.id.peek(memory, target) !== id) return breach(`id ${id} names ${nameOf(view, target)}`);
  if (IommufdObject.iommufd.peek(memory, target) !== iommufd) return breach(`${nameOf(view, target)} is of another context than its id`);
  const header = headers[kind];
  const isWhole = header === undefined || header.peek(memory, IommufdObject.body.peek(memory, target)) === target;
  return isWhole ? null : breach(`${nameOf(view, target)} can be found and is not finished`);
}
