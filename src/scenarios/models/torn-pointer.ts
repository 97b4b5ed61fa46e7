/** Model: one writer moves group, record and device under a lock; a reader looks at two of them without it. */
import { mutex } from '#hostmem/locks';
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

const Pointer = object('TornPointer', { lock: mutex, group: u32, record: u32, device: u32 });

export default scenario({
  title: 'a reader without the lock sees a group moved and its device not yet, or the other way round',
  seed: null,
  variants: [],
  holds: [],

  world(w) {
    const { kernel } = w.host;
    w.process('model');
    const pointer = Pointer.create(kernel);
    for (const word of [Pointer.group, Pointer.record, Pointer.device]) word.poke(kernel, pointer, 1);
    return { pointer };
  },

  actors: ({ vm }) => ({
    writer: vm('model', ({ host: { kernel } }, { pointer }) => {
      Pointer.lock.acquire(kernel, pointer);
      Pointer.group.store(kernel, pointer, 2);
      Pointer.record.store(kernel, pointer, 2);
      Pointer.device.store(kernel, pointer, 2);
      Pointer.lock.release(kernel, pointer);
    }),
    reader: vm('model', (actor, { pointer }) => {
      const { kernel } = actor.host;
      const group = Pointer.group.load(kernel, pointer);
      const device = Pointer.device.load(kernel, pointer);
      actor.check(group === device, `the group is at ${group}, the device at ${device}`);
    }),
  }),
});
