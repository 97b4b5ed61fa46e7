/** Model: a table is replaced and the old one freed at once, while a user of the old one is on the way to it. */
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

/** `current` is 1 or 2: which of the tables is in use. */
const Slot = object('ReplacedSlot', { current: u32, other: u32, firstFreed: u32, secondFreed: u32 });

const freedOf = (table: number) => (table === 1 ? Slot.firstFreed : Slot.secondFreed);

export default scenario({
  title: 'a table is freed while somebody who has just looked it up is about to use it',
  seed: null,
  variants: [],
  holds: [],

  world(w) {
    w.process('model');
    const slot = Slot.create(w.host.kernel);
    Slot.current.poke(w.host.kernel, slot, 1);
    return { slot };
  },

  actors: ({ vm }) => ({
    replacer: vm('model', ({ host: { kernel } }, { slot }) => {
      const old = Slot.current.exchange(kernel, slot, 2);
      freedOf(old).store(kernel, slot, 1);
    }),
    bystander: vm('model', ({ host: { kernel } }, { slot }) => {
      Slot.other.add(kernel, slot, 1);
      Slot.other.add(kernel, slot, 1);
    }),
    user: vm('model', (actor, { slot }) => {
      const { kernel } = actor.host;
      const table = Slot.current.load(kernel, slot);
      const isFreed = freedOf(table).load(kernel, slot);
      actor.check(isFreed === 0, `table ${table} is used after it was freed`);
    }),
  }),
});
