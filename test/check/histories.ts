/** Hosts with a history, for invariants: what happens in a test is written as events, or as records that are poked. */
import { Cursor, History, historyBytes } from '#hostmem/history';
import { Judge, type Verdict } from '#src/check/judge';
import { loadInvariants } from '#src/check/catalogue';
import { View } from '#src/check/view';
import { PciFunction } from '#src/hardware/function';
import { World, type WorldOptions } from '#src/world';
import { Vmm } from '../kernel/vmm.ts';

/** Events that a ring holds. */
const capacity = 8192;

/** A VMM whose host writes a history of `rings` rings, and a judge over it. */
export class Court {
  readonly vmm: Vmm;
  readonly group;
  readonly other;
  readonly history: History;
  readonly judge: Judge;

  constructor(judge: (history: History, view: View) => Judge, rings: number = 1, options: Partial<WorldOptions> = {}) {
    this.vmm = new Vmm(new World(options));
    this.group = this.vmm.world.group('A', 'B');
    this.other = this.vmm.world.group('L');
    this.history = new History(new SharedArrayBuffer(historyBytes(rings, capacity)), rings, capacity);
    this.vmm.world.host.kernel.history = this.history;
    this.judge = judge(this.history, new View(this.vmm.world.host.buffers));
  }

  /** Requester id of a function. */
  rid(name: string): number {
    return PciFunction.rid.peek(this.vmm.world.host.kernel, this.vmm.world.directory[name]!);
  }

  verdict(): Verdict | null {
    return this.judge.quiescence();
  }
}

export async function court(id: string, rings: number = 1, options: Partial<WorldOptions> = {}): Promise<Court> {
  const invariants = await loadInvariants([id]);
  return new Court((history, view) => new Judge(invariants, history, view), rings, options);
}

/** How many events of a kind a history holds. */
export function countOf(history: History, kind: number): number {
  const cursor = new Cursor(history.words);
  let count = 0;
  for (let index = 0; index < history.length(0); index++) {
    cursor.at = history.at(0, index);
    if (cursor.kind === kind) count++;
  }
  return count;
}
