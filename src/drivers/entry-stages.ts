/**
 * How software changes a table entry of several words that hardware may be reading, as a policy (SEMANTICS c.7; for SMMUv3 the kernel's
 * `arm_smmu_write_entry`). Pure: says what the entry is to be, stage by stage; each stage is written and flushed before the next.
 *
 *   copy      one stage: the new words over the old ones. Hardware that fetches in pieces sees mixtures.
 *   break     not present, then the other words, then the word with the present bit: hardware sees the old entry, none, or the new one.
 *   hitless   where what hardware will use differs in one word alone: the words that it does not use yet, that word, then what is no longer
 *             used; hardware sees the old entry or the new one. `break` otherwise.
 */
export type WritePolicy = 'copy' | 'break' | 'hitless';

/** An entry as its low words; word 0 has the present bit. */
export type EntryValue = readonly [number, number, number];

/** The bits of each word that hardware looks at, given the entry. */
export type UsedBits<E extends readonly number[]> = (entry: E) => E;

/** `present` is bit 0 of word 0, unless the table has it elsewhere. */
export function stagesOf<E extends readonly number[]>(policy: WritePolicy, current: E, target: E, usedBits: UsedBits<E>, present: number = 1): E[] {
  if (policy === 'copy') return [target];
  if (policy === 'hitless') {
    const stages = hitlessStages(current, target, usedBits);
    if (stages !== null) return stages;
  }
  const gone = withFirst(current, current[0]! & ~present);
  return (target[0]! & present) === 0 ? [gone, target] : [gone, withFirst(target, gone[0]!), target];
}

/** Null when the used parts of both differ in more than one word. */
function hitlessStages<E extends readonly number[]>(current: E, target: E, usedBits: UsedBits<E>): E[] | null {
  const usedNow = usedBits(current);
  const usedThen = usedBits(target);
  // Bits that hardware does not look at yet can be written at any time.
  const prepared = combine(current, target, usedNow);
  // What the new entry does not use may stay until it is in force.
  const differs = prepared.map((word, i) => ((word ^ target[i]!) & usedThen[i]!) !== 0);
  if (differs.filter(Boolean).length > 1) return null;
  const critical = differs.indexOf(true);
  if (critical < 0) return [prepared, target];
  const switched = prepared.map((word, i) => (i === critical ? target[i]! : word)) as unknown as E;
  return [prepared, switched, target];
}

/** The used bits of one entry, the others of another. */
function combine<E extends readonly number[]>(used: E, unused: E, bits: E): E {
  return used.map((word, i) => (word & bits[i]!) | (unused[i]! & ~bits[i]!)) as unknown as E;
}

const withFirst = <E extends readonly number[]>(entry: E, word0: number): E => entry.map((word, i) => (i === 0 ? word0 : word)) as unknown as E;
