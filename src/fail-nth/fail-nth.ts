/** The sweep over all sequences, or some of them by name. */
import { invariantIds, loadInvariants } from '../check/catalogue.ts';
import { InputError, unknownName } from '../input-error.ts';
import { faultsOf72, onlyFaults } from '../kernel/faults-of-72.ts';
import { linux72 } from '../kernel/operations.ts';
import type { FailNthResult } from '../results.ts';
import { loadSequences } from './catalogue.ts';
import type { Sequence } from './sequence.ts';
import { sweep } from './sweep.ts';

export interface FailNthOptions {
  /** None: all. */
  readonly names: readonly string[];
  /** Null: every number in turn. */
  readonly nth: number | null;
  readonly asIn72: boolean;
}

/** Throws `InputError` for a name that no sequence has, and a number that none of them reaches. */
export async function failNth({ names, nth, asIn72 }: FailNthOptions): Promise<FailNthResult> {
  const all = await loadSequences();
  const chosen = names.length === 0 ? all : names.map((name) => find(all, name));
  const invariants = await loadInvariants(invariantIds());
  const operations = { ...linux72, faults: asIn72 ? faultsOf72 : onlyFaults() };
  const sequences = chosen.map((sequence) => sweep(sequence, { operations, invariants, ...(nth === null ? {} : { only: nth }) }));
  const most = Math.max(...sequences.map(({ points }) => points));
  if (nth !== null && nth > most) throw new InputError(`--fail-nth ${nth}: nothing more than ${most} things can fail there; for example --fail-nth 1`);
  return { asIn72, sequences };
}

function find(all: readonly Sequence[], name: string): Sequence {
  return all.find((one) => one.name === name) ?? refuse(all, name);
}

function refuse(all: readonly Sequence[], name: string): never {
  throw unknownName('sequence', name, all.map((one) => one.name));
}
