/** Orders that look random, so that the processor's own caches and predictors see what a device's would. */
import { mix32 } from '#hostmem/labels';

/** `0..count` in an order that is the seed's. */
export function shuffled(count: number, seed: number): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  for (let i = count - 1; i > 0; i--) {
    const other = mix32(mix32(seed) ^ i) % (i + 1);
    [order[i], order[other]] = [order[other]!, order[i]!];
  }
  return order;
}
