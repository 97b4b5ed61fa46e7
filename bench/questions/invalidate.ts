/**
 * A round trip through a unit's invalidation queue, as a driver makes it after an unmap: descriptors written, carried out, waited for. Of one page, of
 * many, and beside a function whose transactions in flight have to drain.
 */
import { Host } from '#hostmem/host';
import { VtdDriver } from '#src/drivers/vtd/driver';
import { Machine } from '#src/hardware/machine';
import { attachFunctions, type Attached } from '../attached.ts';
import { devicePages as pages, iovaHigh, work as readAll } from '../device.ts';
import { Team } from '../team.ts';
import type { Question, Row } from '../question.ts';

/** What a thread of the team is told. */
interface Job {
  readonly attached: Attached;
  readonly invalidates: boolean;
}

export function work({ attached, invalidates }: Job): (count: number) => number {
  return invalidates ? invalidator(attached, 1) : readAll(attached);
}

function invalidator({ buffers, domain }: Attached, eachPages: number): (count: number) => number {
  const host = new Host(buffers);
  const driver = new VtdDriver(host, new Machine(host));
  return (count) => {
    for (let i = 0; i < count; i++) driver.sync(domain, iovaHigh, (i & (pages - 1)) << 12, eachPages, true);
    return count;
  };
}

export default {
  asks: 'what does an invalidation cost, from the descriptor to the end of the wait?',
  prepare(tiny) {
    const operations = tiny ? 16 : 256;
    const [attached] = attachFunctions(1, pages);
    const team = new Team(new URL('./invalidate.js', import.meta.url).href, [true, false].map((invalidates): Job => ({ attached: attached!, invalidates })));
    const row = (name: string, eachPages: number): Row => {
      const run = invalidator(attached!, eachPages);
      return { name, operations, call: () => run(operations) };
    };
    const besideDma = (): { value: number; checksum: number } => {
      const { seconds, made, sum } = team.steady(operations, tiny ? 5 : 60);
      return { value: (seconds * 1e9) / made[0]!, checksum: sum };
    };
    return {
      rows: [row('page', 1), row('256-pages', 256), { name: 'page/beside-dma', against: 'page', sample: besideDma }],
      within(measure) {
        measure();
        team.end();
      },
    };
  },
} satisfies Question;
