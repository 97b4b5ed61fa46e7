/** Model: three actors, one locked section each. Nothing breaks, in 6 classes of schedules: the orders of the sections. */
import { mutex } from '#hostmem/locks';
import type { Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

const Section = object('LockedSection', { lock: mutex, group: u32, record: u32, device: u32 });

function move(kernel: Memory, section: Ref<'LockedSection'>, to: number): void {
  Section.lock.acquire(kernel, section);
  Section.group.store(kernel, section, to);
  Section.record.store(kernel, section, to);
  Section.device.store(kernel, section, to);
  Section.lock.release(kernel, section);
}

export default scenario({
  title: 'two writers and a reader take one lock: the reader sees all moved or nothing',
  seed: null,
  variants: [],
  holds: [],

  world(w) {
    const { kernel } = w.host;
    w.process('model');
    const section = Section.create(kernel);
    for (const word of [Section.group, Section.record, Section.device]) word.poke(kernel, section, 1);
    return { section };
  },

  actors: ({ vm }) => ({
    first: vm('model', ({ host: { kernel } }, { section }) => move(kernel, section, 2)),
    second: vm('model', ({ host: { kernel } }, { section }) => move(kernel, section, 3)),
    reader: vm('model', (actor, { section }) => {
      const { kernel } = actor.host;
      Section.lock.acquire(kernel, section);
      const group = Section.group.load(kernel, section);
      const device = Section.device.load(kernel, section);
      Section.lock.release(kernel, section);
      actor.check(group === device, `the group is at ${group}, the device at ${device}`);
    }),
  }),
});
