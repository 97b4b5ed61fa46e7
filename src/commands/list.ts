/**
 * `dmarena list`: what there is to run: scenarios with their variants, strategies, formats, invariants.
 */
import { wrap } from '../report/wrap.ts';
import type { ListResult, ListedScenario, ListedVariant } from '../results.ts';
import type { Terminal } from '../terminal.ts';

export async function list(_options: object, terminal: Terminal): Promise<number> {
  const { catalogue } = await import('../catalogue.ts');
  const result: ListResult = await catalogue();
  terminal.say(terminal.style('bold', 'scenarios'), ...result.scenarios.flatMap((scenario) => describe(scenario, terminal)));
  terminal.heading('models, for trying strategies');
  terminal.say(...result.models.flatMap(({ name, title }) => [`  ${terminal.style('cyan', name)}`, ...wrap(`    ${title}`, 80, '    ')]));
  terminal.heading('invariants');
  terminal.say(...result.invariants.flatMap(({ id, claim }) => wrap(`  ${id.padEnd(4)} ${claim}`, 80, '       ')));
  terminal.heading('strategies');
  terminal.say(`  ${result.strategies.join(', ')}`);
  terminal.heading('page-table formats');
  terminal.say(`  ${result.formats.join(', ')}`);
  terminal.answer(result);
  return 0;
}

function describe({ name, title, seed, race, variants }: ListedScenario, terminal: Terminal): string[] {
  const homes = [seed === null ? null : `seed ${seed}`, race === null ? null : `race ${race}`].filter((home) => home !== null);
  const belongsTo = homes.length === 0 ? '' : ` (${homes.join(', ')})`;
  return [
    `  ${terminal.style('cyan', name)}${belongsTo}`,
    ...wrap(`    ${title}`, 80, '    '),
    ...variants.flatMap((variant) => describeVariant(variant, terminal)),
  ];
}

function describeVariant({ name, mistake, source, caughtBy, judgedBy }: ListedVariant, terminal: Terminal): string[] {
  const caught = caughtBy === null ? '' : `, caught by ${caughtBy}`;
  const judged = judgedBy.length === 0 ? '' : `, judged by ${judgedBy.join(', ')} too`;
  const told = mistake === null ? [] : wrap(`      ${mistake}`, 80, '      ');
  return [`    --variant ${terminal.style('cyan', name)}${judged}${caught}`, ...told, `      ${source}`];
}
