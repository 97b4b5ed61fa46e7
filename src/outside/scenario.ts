/** A scenario from outside: its members, its actors, and whether its world has what the actors are. */
import { InputError, unknownName } from '../input-error.ts';
import { actorsOf, parametersOf, worldOptions, type Actors, type Parameters, type Role, type Scenario } from '../scenario.ts';
import { violationOf } from '../schedule/violation.ts';
import { iommus } from '../built-units.ts';
import { World, type WorldOptions } from '../world.ts';
import { tell } from './file.ts';
import { checkMembers, oneOf, optional, plainFunction, sentence, sentenceOrNull, texts, wholeNumber, type Member } from './shape.ts';

/** How the world's directory knows what an actor of this role is. */
const subjects: Readonly<Record<Role, { readonly noun: string; isIn(directory: World['directory'], name: string): boolean }>> = {
  vm: { noun: 'process', isIn: (directory, name) => name in directory && !(`${name}.registers` in directory) && !name.includes('.') },
  device: { noun: 'device', isIn: (directory, name) => `${name}.registers` in directory },
  viommu: { noun: 'guest', isIn: (directory, name) => `${name}.memory` in directory },
};
const roles = Object.keys(subjects);

const members = {
  title: sentence,
  seed: sentenceOrNull,
  variants: texts,
  vms: optional(wholeNumber(1, 1024)),
  host: optional({ needs: "an object, as { iommu: 'vtd-scalable' }", fits: (value) => typeof value === 'object' && value !== null }),
  world: plainFunction,
  actors: plainFunction,
  holds: texts,
};
const hostMembers: Readonly<Record<keyof Omit<WorldOptions, 'vms'>, Member>> = {
  ramBytes: optional(wholeNumber(65_536, 0xffff0000)),
  kernelBytes: optional(wholeNumber(65_536, 64 << 20)),
  iommu: optional(oneOf(...iommus)),
  fetchBits: optional(oneOf(64, 128, 512)),
  caches: optional(oneOf('on', 'off')),
  ats: optional(oneOf(true, false)),
  pageRequests: optional(oneOf(true, false)),
  pasids: optional(oneOf(true, false)),
  units: optional(wholeNumber(1, 8)),
  defaultDomain: optional(oneOf('dma', 'identity')),
  aliasPasidTableSkipped: optional(oneOf(true, false)),
  confidential: optional({ needs: 'an object, as { checksHits: true }', fits: (value) => typeof value === 'object' && value !== null && 'checksHits' in value }),
};
const actorMembers = { role: sentence, subject: sentence, steps: optional(wholeNumber(1, 0xffff)), body: plainFunction };

/** Throws `InputError`; `vms` as the command line has it. Builds the world once to see that it can be built. */
export function checkScenario(path: string, value: unknown, vms: number | null, knownVariants: readonly string[]): Scenario {
  checkMembers(path, 'a scenario', value, members);
  checkMembers(path, "'host' of a scenario", (value as Scenario).host ?? {}, hostMembers);
  const scenario = value as Scenario;
  const unknown = scenario.variants.find((name) => !knownVariants.includes(name));
  if (unknown !== undefined) throw new InputError(`${path}: ${unknownName('variant', unknown, knownVariants).message}`);
  const parameters = parametersOf(scenario, vms);
  const actors = Object.entries(cast(path, scenario, parameters));
  if (actors.length === 0) throw new InputError(`${path}: the scenario has no actors; give it one at least, by vm(), device() or viommu()`);
  for (const [name, actor] of actors) {
    checkMembers(path, `actor '${name}'`, actor, actorMembers);
    if (!roles.includes(actor.role)) throw new InputError(`${path}: actor '${name}': ${unknownName('role', actor.role, roles).message}`);
  }
  const { directory } = build(path, scenario, parameters);
  for (const [name, actor] of actors) checkSubject(path, name, actor, directory);
  return scenario;
}

function cast(path: string, scenario: Scenario, parameters: Parameters): Actors<never> {
  try {
    return actorsOf(scenario, parameters) ?? {};
  } catch (thrown) {
    throw new InputError(`${path}: its actors cannot be made: ${violationOf(thrown).message}`);
  }
}

function build(path: string, scenario: Scenario, parameters: Parameters): World {
  const world = new World(worldOptions(scenario, parameters));
  let stage: unknown;
  try {
    stage = scenario.world(world);
  } catch (thrown) {
    throw new InputError(`${path}: its world cannot be built: ${violationOf(thrown).message}`);
  }
  checkStage(path, stage);
  return world;
}

/** The stage is copied to every actor's thread. */
function checkStage(path: string, stage: unknown): void {
  if (stage === undefined || canBeCopied(stage)) return;
  const members = typeof stage === 'object' && stage !== null ? Object.entries(stage) : [];
  const odd = members.find(([, member]) => !canBeCopied(member));
  const what = odd === undefined ? tell(stage) : `${tell(odd[1])} as '${odd[0]}'`;
  throw new InputError(`${path}: world() returns ${what}, which cannot be handed to other threads; return plain data, numbers above all`);
}

function canBeCopied(value: unknown): boolean {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
}

function checkSubject(path: string, name: string, { role, subject }: { readonly role: Role; readonly subject: string }, directory: World['directory']): void {
  const { noun, isIn } = subjects[role];
  if (isIn(directory, subject)) return;
  const known = Object.keys(directory).filter((one) => !one.includes('.') && isIn(directory, one));
  throw new InputError(`${path}: actor '${name}': ${unknownName(noun, subject, known).message}`);
}
