/** C6, no torn read: hardware acts on entries as software meant them, as a whole. */
import { EntryWritten } from '../../drivers/events.ts';
import { entryFetched, TableKind } from '../../hardware/events.ts';
import { PciFunction } from '../../hardware/function.ts';
import { installedEntries } from '../../hardware/installed-root.ts';
import { functionsOf } from '../cached.ts';
import { breach, invariant } from '../invariant.ts';

/** Every complete value that each entry was meant to have, by `<table>.<source>.<pasid>`. */
type Intended = Map<string, Set<string>>;

const tableNames = { [TableKind.CONTEXT]: 'context entry', [TableKind.SCALABLE_CONTEXT]: 'context entry', [TableKind.PASID]: 'PASID entry' };
const hex = (word: number): string => `0x${(word >>> 0).toString(16)}`;
const value = (word0: number, word1: number, word2: number): string => `${hex(word0)}, ${hex(word1)}, ${hex(word2)}`;

export default invariant<Intended>({
  id: 'C6',
  claim: 'every table entry that hardware fetches and acts on is one that software meant to write, not a mixture of two',
  events: [EntryWritten, entryFetched],
  start(view) {
    const intended: Intended = new Map();
    for (const one of functionsOf(view)) {
      const sourceId = PciFunction.sourceId.peek(view.host.kernel, one);
      for (const { table, word0, word1, word2 } of installedEntries(view.host, one)) add(intended, `${table}.${sourceId}.0`, value(word0, word1, word2));
    }
    return intended;
  },
  step(intended, event) {
    const { get } = event.kind === EntryWritten.kind ? EntryWritten : entryFetched;
    const name = `${get.table(event)}.${get.source(event)}.${get.pasid(event)}`;
    const words = value(get.word0(event), get.word1(event), get.word2(event));
    if (event.kind === EntryWritten.kind) add(intended, name, words);
    else if (intended.get(name)?.has(words) !== true) {
      const kind = tableNames[get.table(event) as keyof typeof tableNames];
      return breach(`the ${kind} of requester ${hex(get.source(event))} was fetched as (${words}), which nobody meant it to be`);
    }
    return null;
  },
});

function add(intended: Intended, name: string, words: string): void {
  const known = intended.get(name);
  if (known === undefined) intended.set(name, new Set([words]));
  else known.add(words);
}
