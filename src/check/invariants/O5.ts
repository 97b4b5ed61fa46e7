/** O5, error atomicity: what a call that fails leaves is what it found. */
import { errnoName } from '../../kernel/errno.ts';
import { commandName } from '../../kernel/call-events.ts';
import { CallBegan, CallEnded } from '../../kernel/events.ts';
import { breach, invariant } from '../invariant.ts';
import { difference, observe, type Observed } from '../observed.ts';

interface Calls {
  /** Calls that have begun and not ended, on the whole host. */
  running: number;
  /** The one that runs has had the host for itself since it began. */
  alone: boolean;
  /** What was there when it began. */
  before: Observed | null;
  /** What happened last: a call began, or one that was alone failed with this command and errno; null otherwise. */
  last: 'began' | { readonly command: number; readonly errno: number } | null;
}

/** These may fail when they have removed a part, and say so in their answer. */
const partial = new Set(['IOMMU_IOAS_UNMAP', 'VFIO_IOMMU_UNMAP_DMA']);

/** Seen where a look is possible at any moment, in controlled runs, and of calls that nobody else's overlapped. */
export default invariant<Calls>({
  id: 'O5',
  claim: 'a call that fails, while no other runs, leaves attachments, table entries, areas, regions, ids, users and descriptors as they were',
  events: [CallBegan, CallEnded],
  start: () => ({ running: 0, alone: false, before: null, last: null }),
  step(calls, event) {
    if (event.kind === CallBegan.kind) {
      calls.alone = calls.running === 0;
      calls.running++;
      calls.last = 'began';
      return null;
    }
    calls.running--;
    const errno = CallEnded.get.errno(event);
    calls.last = calls.alone && errno !== 0 ? { command: CallEnded.get.command(event), errno } : null;
    calls.alone = false;
    return null;
  },
  inspectAfter: [CallBegan, CallEnded],
  inspect(calls, view) {
    const { last, before } = calls;
    calls.last = null;
    if (last === 'began') calls.before = calls.alone ? observe(view) : null;
    if (last === null || last === 'began' || before === null || partial.has(commandName(last.command))) return null;
    const found = difference(before, observe(view));
    return found === null ? null : breach(`${commandName(last.command)} failed with ${errnoName(last.errno)}, but ${found}`);
  },
});
