/** Model: somebody looks once whether anybody waits; who comes later asks for the signal for ever. */
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

const Signal = object('MissedSignal', { waits: u32, given: u32 });

export default scenario({
  title: 'a signal is given only to who waits already, and who waits asks again and again',
  seed: null,
  variants: [],
  holds: [],

  world(w) {
    w.process('model');
    return { signal: Signal.create(w.host.kernel) };
  },

  actors: ({ vm }) => ({
    waiter: vm('model', ({ host: { kernel } }, { signal }) => {
      Signal.waits.store(kernel, signal, 1);
      while (Signal.given.load(kernel, signal) === 0);
    }),
    signaller: vm('model', ({ host: { kernel } }, { signal }) => {
      if (Signal.waits.load(kernel, signal) === 1) Signal.given.store(kernel, signal, 1);
    }),
  }),
});
