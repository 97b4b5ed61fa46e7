/** What an exploring cell is asked, and what it answers. */
import type { Reach } from './check/reach.ts';
import type { Question } from './reach-question.ts';
import type { Shrunk } from './results.ts';
import type { Failure } from './report/failure.ts';
import type { Switch } from './schedule/board.ts';
import type { Scene } from './schedule/shrink.ts';
import type { Iommu } from './built-units.ts';

interface Breach {
  readonly invariant: string;
  readonly message: string;
}

export interface OpenRequest {
  readonly kind: 'open';
  readonly scenario: { readonly name: string; readonly url: string };
  readonly variant: { readonly name: string; readonly url: string | null };
  /** Ids of invariants, or URLs of those from outside. */
  readonly holds: readonly string[];
  readonly seed: number;
  readonly vms: number | null;
  readonly iommu: Iommu | null;
  /** What `replay` needs beside the token. */
  readonly replayFlags: string;
}

/** Schedules `first`, `first + stride`, ... below `end`. */
export interface ExploreRequest {
  readonly kind: 'explore';
  readonly strategy: string;
  readonly seed: number;
  readonly first: number;
  readonly stride: number;
  readonly count: number;
}

/** What a schedule is made of beside its switches: the number of its programs, and their steps that are left out. */
export interface Workload {
  readonly program: number;
  readonly leftOut: readonly number[];
}

export interface ReplayRequest {
  readonly kind: 'replay';
  readonly switches: readonly Switch[];
  readonly workload: Workload;
  readonly times: number;
}

export interface ShrinkRequest {
  readonly kind: 'shrink';
  readonly switches: readonly Switch[];
  readonly program: number;
  readonly seed: number;
  readonly steps: number;
  readonly scene: Scene;
  readonly invariant: string;
}

/** Replays once with a trace and makes the story's material of it; `token` becomes part of it. The cell's last request. */
export interface TellRequest {
  readonly kind: 'tell';
  readonly switches: readonly Switch[];
  readonly workload: Workload;
  readonly token: string;
}

/** Runs the schedule, leaves the host as it is then, and answers the question about it: the cell's last request. */
export interface ExplainRequest {
  readonly kind: 'explain';
  readonly switches: readonly Switch[];
  readonly workload: Workload;
  readonly question: Question;
}

export type CellRequest =
  | OpenRequest | ExploreRequest | ReplayRequest | ShrinkRequest | TellRequest | ExplainRequest
  | { readonly kind: 'stop before'; readonly index: number }
  | { readonly kind: 'close' };

export interface Explored {
  readonly schedules: number;
  /** Of the failing schedule; where none failed, the next one. */
  readonly index: number;
  readonly violation: Breach | null;
  readonly switches: readonly Switch[] | null;
  readonly program: number;
  readonly steps: number;
  readonly scene: Scene;
  /** An exhaustive strategy came to its end, or gave up because a schedule was too long. */
  readonly isComplete: boolean;
  readonly isTooLong: boolean;
  readonly cover: Int32Array;
  readonly isCoverTruncated: boolean;
}

export interface Replayed {
  readonly hashes: readonly string[];
  readonly times: number;
  readonly violation: Breach | null;
}

export interface ShrunkAnswer {
  readonly switches: readonly Switch[];
  readonly workload: Workload;
  /** Steps of programs that are left; null where no actor has one. */
  readonly programSteps: number | null;
  readonly effort: Shrunk;
}

export interface Told {
  readonly failure: Failure | null;
  /** The trace in short: who did what, in order. */
  readonly steps: readonly { readonly actor: string; readonly label: string }[];
}

/** One of both is there: an answer, or what is wrong with the question. */
export interface Explained {
  readonly reach: Reach | null;
  readonly problem: string | null;
}
