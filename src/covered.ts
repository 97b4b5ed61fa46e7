/** What several cells have covered together: the union of their tables. */
import type { Coverage } from './results.ts';
import { Covered } from './schedule/coverage.ts';

/** As `readCover` reads it, of each cell. */
export function sumUp(covers: readonly Int32Array[], schedules: number, truncated: boolean): Coverage {
  const kinds: Map<string, number>[] = [new Map(), new Map(), new Map()];
  for (const cover of covers) {
    for (let i = 0; i < cover.length; i += 4) {
      const times = kinds[cover[i]!]!;
      const key = `${cover[i + 1]}.${cover[i + 2]}`;
      times.set(key, (times.get(key) ?? 0) + cover[i + 3]!);
    }
  }
  const once = [...kinds[Covered.TRACE_CLASS]!.values()].filter((times) => times === 1).length;
  return {
    handOffs: kinds[Covered.HAND_OFF]!.size,
    racingPairs: kinds[Covered.SITE_PAIR]!.size,
    traceClasses: kinds[Covered.TRACE_CLASS]!.size,
    unseen: schedules === 0 ? 1 : once / schedules,
    truncated,
  };
}
