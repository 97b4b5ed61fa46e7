/** Model: three actors add to one word, four times each. Every order is a class of its own: 34,650. */
import { object, u32 } from '#hostmem/struct';
import { scenario } from '../../scenario.ts';

const Sum = object('SumOfThree', { value: u32 });

export default scenario({
  title: 'three actors add to one word four times each',
  seed: null,
  variants: [],
  holds: [],

  world(w) {
    w.process('model');
    return { sum: Sum.create(w.host.kernel) };
  },

  actors: ({ vm }) => {
    const adder = vm('model', ({ host: { kernel } }, { sum }) => {
      for (let i = 0; i < 4; i++) Sum.value.add(kernel, sum, 1);
    });
    return Object.fromEntries(['first', 'second', 'third'].map((name) => [name, adder]));
  },
});
