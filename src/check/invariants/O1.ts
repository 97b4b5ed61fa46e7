/** O1, reference counts are exact at quiescence: one for the table, one for every real referrer. */
import type { Ref } from '#hostmem/object';
import { FaultQueue } from '../../kernel/fault-queue.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { PasidAttachment } from '../../kernel/iommufd-pasid.ts';
import { IommufdObject, Kind, kindNames, type ObjectRef } from '../../kernel/objects.ts';
import { breach, invariant } from '../invariant.ts';
import { contexts, iommufdGroups, membersAttached, objects, openFaultQueues, pasidsAttached } from '../records.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import type { View } from '../view.ts';

export default invariant<null>({
  id: 'O1',
  claim: 'at rest, users is one for the table and one for each referrer, and nobody is inside a call with the object',
  events: [],
  start: () => null,
  step: () => null,
  inspect(_state, view) {
    const memory = view.host.kernel;
    for (const iommufd of contexts(view)) {
      const expected = expectedUsers(view, iommufd);
      for (const target of objects(view, iommufd)) {
        const name = `${kindNames[IommufdObject.kind.peek(memory, target)]} ${IommufdObject.id.peek(memory, target)}`;
        const users = IommufdObject.users.peek(memory, target);
        const waiting = IommufdObject.waitCount.peek(memory, target);
        const word = [{ space: 1, at: IommufdObject.users.address(memory, target) }] as const;
        if (users !== expected.get(target)) return breach(`${name} has users ${users}, ${expected.get(target)} refer to it`, word);
        if (waiting !== 1) return breach(`${name} has wait count ${waiting} while nobody is inside a call`, word);
      }
    }
    return null;
  },
});

/** The edges of A9, counted from the records. */
function expectedUsers(view: View, iommufd: Ref<'Iommufd'>): Map<ObjectRef, number> {
  const memory = view.host.kernel;
  const users = new Map<ObjectRef, number>();
  const refer = (target: ObjectRef, count: number): unknown => users.set(target, (users.get(target) ?? 0) + count);
  for (const target of objects(view, iommufd)) {
    refer(target, 1);
    const body = IommufdObject.body.peek(memory, target);
    const kind = IommufdObject.kind.peek(memory, target);
    if (kind === Kind.HWPT) {
      refer(Ioas.header.peek(memory, Hwpt.ioas.peek(memory, body)), 1);
      const queue = Hwpt.faultQueue.peek(memory, body);
      if (queue !== 0) refer(FaultQueue.header.peek(memory, queue), 1);
    }
    // The driver that bound the device, and its own attachment, each hold it.
    if (kind === Kind.DEVICE) refer(target, 1 + IommufdDevice.attached.peek(memory, body));
  }
  for (const queue of openFaultQueues(view)) {
    const header = FaultQueue.header.peek(memory, queue);
    if (IommufdObject.iommufd.peek(memory, header) === iommufd) refer(header, 1);
  }
  for (const group of iommufdGroups(view, iommufd)) {
    for (const share of pasidsAttached(view, group)) {
      refer(Hwpt.header.peek(memory, PasidAttachment.hwpt.peek(memory, share)), 1);
      refer(IommufdDevice.header.peek(memory, PasidAttachment.device.peek(memory, share)), 1);
    }
    for (const device of membersAttached(view, group)) {
      const own = IommufdDevice.hwpt.peek(memory, device);
      refer(Hwpt.header.peek(memory, own !== 0 ? own : IommufdGroup.hwpt.peek(memory, group)), 1);
    }
  }
  return users;
}
