/**
 * What each command answers: the objects that `--json` prints. Their member names are a contract; more may be added.
 */
import type { WalkOutcome } from './conform/riscv-walk.ts';
import type { ShardPart } from './shard.ts';

/** An invariant that did not hold. `invariant` is the id alone (`G2`). */
export interface Violation {
  readonly invariant: string;
  readonly message: string;
}

/** What shrinking did: switches and faults of the schedule that failed and of what is left of it, how long it took, how many schedules it ran. */
export interface Shrunk {
  readonly from: number;
  readonly to: number;
  readonly ms: number;
  readonly tries: number;
}

/** A violation with its shortest schedule. */
export interface FoundViolation extends Violation {
  readonly token: string;
  /** Forced switches in the token, and faults: choices that are not the usual one. */
  readonly switches: number;
  readonly faults: number;
  /** Steps that are left of the actors' programs; null where no actor has one. */
  readonly programSteps: number | null;
  readonly shrunk: Shrunk;
  readonly steps: readonly { readonly actor: string; readonly label: string }[];
}

/** What the schedules had in them. Two are of one trace class when all that depends on each other came in the same order. */
export interface Coverage {
  /** Distinct (word, actor, next actor) of operations that depend on each other. */
  readonly handOffs: number;
  /** Distinct (site, next site) of conflicting accesses by different actors, locks excepted. */
  readonly racingPairs: number;
  readonly traceClasses: number;
  /** Good and Turing's estimate of the share of schedules that would be of a class not met so far; null with an exhaustive strategy. */
  readonly unseen: number | null;
  /** Whether more was met than could be remembered: the figures are lower bounds then. */
  readonly truncated: boolean;
}

export interface ExploreResult {
  readonly scenario: string;
  readonly variant: string;
  readonly strategy: string;
  readonly seed: number;
  /** Distinct executions; replays made by shrinking are not counted. */
  readonly schedules: number;
  readonly seconds: number;
  readonly schedulesPerSecond: number;
  /** Whether an exhaustive strategy came to its end: `coverage.traceClasses` is how many traces there are, within the bound. */
  readonly complete: boolean;
  /** Whether it gave up instead, because a schedule had more choices or operations than it can keep. */
  readonly tooLong: boolean;
  /** Preemptions that a schedule could have, where the strategy bounds them. */
  readonly bound: number | null;
  /** Of all schedules that were run. */
  readonly coverage: Coverage;
  readonly violation: FoundViolation | null;
}

/** Of `explore --shard`: its own schedules, and what `merge` needs of it. */
export interface ShardResult extends ExploreResult {
  shard: ShardPart;
}

export interface ReplayResult {
  readonly token: string;
  readonly times: number;
  /** The distinct trace hashes: one, if replay is exact. */
  readonly hashes: readonly string[];
  readonly violation: Violation | null;
}

export interface Counts {
  /** How often actors' bodies were run. */
  readonly rounds: number;
  readonly translations: number;
  readonly dma: number;
  readonly maps: number;
  readonly unmaps: number;
  readonly replaces: number;
  readonly faults: number;
}

/** Of the process, and of the model: frames and kernel objects in use on all hosts. */
export interface MemoryUse {
  readonly residentMiB: number;
  readonly frames: number;
  readonly objects: number;
}

export interface RunResult {
  readonly scenario: string;
  readonly variant: string;
  readonly seconds: number;
  readonly threads: readonly { readonly actor: string; readonly role: string; readonly threadId: number }[];
  readonly counts: Counts;
  /** What each VM got done, where the scenario numbers its VMs. */
  readonly vms: readonly ({ readonly vm: string } & Counts)[];
  /** When all threads were at work, and at the end. */
  readonly memory: { readonly begin: MemoryUse; readonly end: MemoryUse };
  readonly violation: Violation | null;
}

/** The first field in which the model answered otherwise than the recorded kernel. */
export interface Difference {
  readonly file: string;
  readonly line: number;
  readonly call: string;
  readonly expected: string;
  readonly got: string;
}

export interface ConformResult {
  readonly files: number;
  readonly passed: number;
  readonly failed: readonly Difference[];
  readonly skipped: readonly { readonly file: string; readonly why: string }[];
}

/** What a page-table format answered otherwise than a page table does: the shortest sequence that shows it. */
export interface FormatDifference {
  readonly steps: readonly string[];
  readonly expected: string;
  readonly got: string;
}

export interface TriedFormat {
  readonly format: string;
  readonly levels: number;
  readonly inputBits: number;
  /** Maps, unmaps and walks that were compared. */
  readonly operations: number;
  readonly difference: FormatDifference | null;
}

export interface TryFormatResult {
  readonly seed: number;
  readonly formats: readonly TriedFormat[];
}

/** A call in which something was refused, and what was not as it should be then. */
export interface FailNthProblem {
  /** Which of the things that can fail, counted from 1, and what it was. */
  readonly nth: number;
  readonly refused: string;
  readonly message: string;
}

export interface FailNthResult {
  /** Whether what Linux 7.2 is known to do wrong was left in. */
  readonly asIn72: boolean;
  readonly sequences: readonly { readonly name: string; readonly points: number; readonly problems: readonly FailNthProblem[] }[];
}

export interface ListedVariant {
  readonly name: string;
  /** Null for a kernel that holds. */
  readonly mistake: string | null;
  readonly source: string;
  readonly caughtBy: string | null;
  /** Invariants that it is judged by beside the scenario's. */
  readonly judgedBy: readonly string[];
}

export interface ListedScenario {
  readonly name: string;
  readonly title: string;
  /** Which of the discussions it makes executable. */
  readonly seed: string | null;
  /** Which of the first dozen races it is; its name is the race's then. */
  readonly race: number | null;
  readonly variants: readonly ListedVariant[];
}

export interface ListResult {
  readonly scenarios: readonly ListedScenario[];
  /** Scenarios of a few words of memory, which strategies are measured by. */
  readonly models: readonly { readonly name: string; readonly title: string }[];
  readonly formats: readonly string[];
  readonly strategies: readonly string[];
  readonly invariants: readonly { readonly id: string; readonly claim: string }[];
}

/** One line of `walk`. */
export type WalkResult = { readonly id: string; readonly got: WalkOutcome } | { readonly id: string; readonly skipped: string };
