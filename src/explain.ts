/** A scripted state, and what a device reaches in it: a scenario's world as it was built, or as the schedule of a token leaves it. */
import type { Reach } from './check/reach.ts';
import { CellProcess, cellCpus } from './cell-process.ts';
import { choose } from './chosen.ts';
import { openToken, type ReplayFiles } from './explore.ts';
import { InputError } from './input-error.ts';
import { operationsOf } from './kernel/variant.ts';
import { answer, type Question } from './reach-question.ts';
import { parametersOf, worldOptions } from './scenario.ts';
import { World } from './world.ts';

/** Throws `InputError`. */
export async function explainScenario(name: string, iommu: string | null, question: Question): Promise<Reach> {
  const chosen = await choose({ scenario: name, variant: 'correct', iommu });
  const { value } = chosen.scenario;
  const { aliasPasidTableSkipped } = operationsOf(chosen.variant.value).faults;
  const world = new World({ ...worldOptions(value, parametersOf(value, null, chosen.iommu)), aliasPasidTableSkipped });
  value.world(world);
  return answer(world.host, world.directory, question);
}

/** Runs the token's schedule once and looks at what it leaves. Throws `InputError`. */
export async function explainToken(text: string, files: ReplayFiles, question: Question): Promise<Reach> {
  const { request, order } = await openToken(text, files);
  const cell = await CellProcess.open(cellCpus()[0]!, request, () => {});
  try {
    const { reach, problem } = await cell.explain({ ...order, question });
    if (reach === null) throw new InputError(problem ?? 'nothing is known of the device');
    return reach;
  } finally {
    cell.close();
  }
}
