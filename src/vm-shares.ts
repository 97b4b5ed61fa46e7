/** What each VM of a run got done. Actors belong to the VM whose number ends their name: `vm3`, `dev3`, `viommu3`. */
import { counterNames, Counters, type Counts } from './actors/counters.ts';

export type VmShare = { readonly vm: string } & Counts;

/** One entry a VM, in order; none where actors are not numbered. `rounds` are those of the VM's own thread. */
export function sharesOf(names: readonly string[], counters: SharedArrayBuffer): VmShare[] {
  const shares = new Map<number, VmShare>();
  names.forEach((name, actor) => {
    const number = /(\d+)$/.exec(name)?.[1];
    if (number === undefined) return;
    const own = new Counters(counters, actor);
    const share = shares.get(Number(number)) ?? { vm: name, ...(Object.fromEntries(counterNames.map((counter) => [counter, 0])) as Counts) };
    for (const counter of counterNames) if (counter !== 'rounds' || share.vm === name) share[counter] += own.read(counter);
    shares.set(Number(number), share);
  });
  return [...shares.values()];
}

/** How evenly rounds were shared, as `evenness`. */
export const fairness = (shares: readonly VmShare[]): number => evenness(shares.map(({ rounds }) => rounds));

/** 1 when all have the same, 1/n when one has all (Jain's index). */
export function evenness(values: readonly number[]): number {
  const sum = values.reduce((all, value) => all + value, 0);
  const squares = values.reduce((all, value) => all + value * value, 0);
  return squares === 0 ? 1 : (sum * sum) / (values.length * squares);
}
