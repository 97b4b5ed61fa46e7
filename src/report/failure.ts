/**
 * A shrunk failure, as the report reads it: what each actor did in order, and which words disagree.
 *
 * Plain data with names instead of numbers: this room knows neither the scheduler's board nor the model's records.
 */
import type { Op } from '#hostmem/atomics';

/** `WROTE` is a guarded word that was written under its lock: no point, but part of the story. */
export type StepOp = keyof typeof Op | 'WROTE';

export interface TraceStep {
  /** Place in the global order, ascending. */
  readonly step: number;
  readonly actor: string;
  readonly op: StepOp;
  /** Which memory (`Space`), and the byte address in it. */
  readonly space: number;
  readonly at: number;
  /** Record and field: `Igroup.lock`. */
  readonly label: string;
  /** What the operation read or left behind. */
  readonly value: number;
  /** The value in the field's words, where it is known. */
  readonly means?: string;
  /** Whether more than one actor could have gone here. */
  readonly choice: boolean;
}

/** What the model reported about itself, as text: `ATTACH A -> ioas 3`. */
export interface StoryEvent {
  /** The step after which it was reported. */
  readonly step: number;
  readonly actor: string;
  readonly text: string;
  /** Of a DMA: whose memory it reached, or that it faulted. */
  readonly reached?: string;
  /** What drivers and hardware do on the way: told where there is room. */
  readonly detail?: true;
}

/** `actor` is held after its own `op`-th operation and `next` goes on. At the start of the schedule `actor` is null. */
export interface ForcedSwitch {
  readonly actor: string | null;
  readonly op: number;
  readonly next: string;
}

/** One of the words that should agree and do not. */
export interface ConflictingWord {
  readonly label: string;
  readonly space: number;
  readonly at: number;
  /** Null when it was never written in this schedule. */
  readonly lastWrite: { readonly actor: string; readonly step: number; readonly value: number } | null;
  /** The value in the field's words, where it is known: `hwpt 7 of ioas 2`. */
  readonly means?: string;
}

/** A word that the actor which broke the schedule had read, as another one left it: what it went on with. */
export interface FoundWord {
  readonly label: string;
  readonly value: number;
  /** The value in the field's words, where it is known. */
  readonly means?: string;
  /** The other one did not write it but gave the object back, after the read. */
  readonly freed?: true;
  readonly write: { readonly actor: string; readonly step: number };
  readonly read: { readonly actor: string; readonly step: number };
}

/** Where an address led when the schedule had failed. */
export interface AddressState {
  /** `nic, 0x20000000`. */
  readonly title: string;
  /** Which domain answers for the device. */
  readonly domain: string;
  /** What hardware reads on the way, in its order: byte addresses in RAM. */
  readonly entries: readonly { readonly name: string; readonly at: number; readonly value: string }[];
  readonly outcome: string;
  /** What caches hold of it; stale is what leads elsewhere than the tables do. */
  readonly cached: readonly { readonly text: string; readonly stale: boolean }[];
}

export interface Failure {
  readonly scenario: string;
  readonly variant: string;
  readonly violation: {
    readonly invariant: string;
    readonly claim: string;
    readonly message: string;
    /** Who saw it, where one actor did. */
    readonly actor?: string;
  };
  /** All actors of the scenario, in its order. */
  readonly actors: readonly string[];
  readonly steps: readonly TraceStep[];
  readonly events: readonly StoryEvent[];
  readonly switches: readonly ForcedSwitch[];
  readonly conflicts: readonly ConflictingWord[];
  /** Where an actor broke it by what it had read, and no words are known to disagree. */
  readonly found?: readonly FoundWord[];
  /** Of the addresses that devices used last. */
  readonly addresses?: readonly AddressState[];
  readonly token: string;
  /** What `dmarena replay` needs beside the token: empty, or beginning with a space. */
  readonly replayFlags?: string;
}

/** Whether the step left a new value in its word. */
export const writes = (op: StepOp): boolean => op === 'STORE' || op === 'RMW' || op === 'WRITE' || op === 'WROTE';
