/**
 * The events of the schedule that ran last, each with the step it was emitted at, for the story of a failure. The history
 * itself is forgotten when a schedule ends; this copy is overwritten by the next schedule's first event.
 */
import { Cursor, eventWords, type History } from '#hostmem/history';

/** Bytes for `capacity` events: a length, then for each event its step and its words. */
export const keptBytes = (capacity: number): number => (1 + capacity * (1 + eventWords)) * 4;

/** Copies the event that was written last. Only the thread that holds the baton calls this. */
export function keepEvent(kept: Int32Array, history: History, step: number): void {
  const index = history.length(history.ring) - 1;
  const at = 1 + index * (1 + eventWords);
  if (at + eventWords >= kept.length) return;
  kept[0] = index + 1;
  kept[at] = step;
  const from = history.at(history.ring, index);
  for (let word = 0; word < eventWords; word++) kept[at + 1 + word] = history.words[from + word]!;
}

export interface KeptEvent {
  readonly step: number;
  readonly cursor: Cursor;
}

/** The kept events, oldest first. */
export function keptEvents(buffer: SharedArrayBuffer): KeptEvent[] {
  const words = new Int32Array(buffer);
  return Array.from({ length: words[0]! }, (_, index) => {
    const at = 1 + index * (1 + eventWords);
    const cursor = new Cursor(words);
    cursor.at = at + 1;
    return { step: words[at]!, cursor };
  });
}
