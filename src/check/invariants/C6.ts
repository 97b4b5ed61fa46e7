/** C6, no torn read: hardware acts on entries as software meant them, as a whole. */
import { EntryFound, EntryWritten } from '../../drivers/events.ts';
import { entryFetched, TableKind } from '../../hardware/events.ts';
import { breach, invariant } from '../invariant.ts';

/** Every complete value that each entry was found with or meant to have, by `<table>.<source>.<pasid>`; none of what nobody has changed. */
type Intended = Map<string, Set<string>>;

const tableNames = {
  [TableKind.CONTEXT]: 'context entry', [TableKind.SCALABLE_CONTEXT]: 'context entry', [TableKind.PASID]: 'PASID entry',
  [TableKind.DEVICE_TABLE]: 'device-table entry', [TableKind.STREAM]: 'stream-table entry', [TableKind.CONTEXT_DESCRIPTOR]: 'context descriptor',
  [TableKind.DEVICE_CONTEXT]: 'device context',
};
const hex = (word: number): string => `0x${(word >>> 0).toString(16)}`;
const value = (word0: number, word1: number, word2: number): string => `${hex(word0)}, ${hex(word1)}, ${hex(word2)}`;

export default invariant<Intended>({
  id: 'C6',
  claim: 'every table entry that hardware fetches and acts on is one that software meant to write, not a mixture of two',
  events: [EntryFound, EntryWritten, entryFetched],
  start: () => new Map(),
  step(intended, event) {
    const { get } = event.kind === entryFetched.kind ? entryFetched : EntryWritten;
    const name = `${get.table(event)}.${get.source(event)}.${get.pasid(event)}`;
    const words = value(get.word0(event), get.word1(event), get.word2(event));
    if (event.kind !== entryFetched.kind) add(intended, name, words);
    // An entry that nobody has begun to change is whole.
    else if (intended.get(name)?.has(words) === false) {
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
