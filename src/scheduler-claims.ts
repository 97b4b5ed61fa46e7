/** What the scheduler itself finds, by the id that it gives: no file holds these invariants. */
export const schedulerClaims: Readonly<Record<string, string>> = {
  DEADLOCK: 'somebody can always go on',
  LIVELOCK: 'whoever is let go on comes to an end: nobody goes round and round for ever',
  BUDGET: 'a schedule ends within its budget of steps',
  THROWN: 'no assertion of the model fails, and no code of an actor or an invariant throws',
  NONDETERMINISM: 'a schedule that is run twice is the same twice',
  O2: 'nobody follows a reference to an object that was freed, or that is of another type',
  L2: 'a guarded field is touched only under its lock',
  L4: 'nobody sleeps on while what it waits for is true',
  L1: 'locks, and waits under locks, are taken in one order',
  RACE: 'of two accesses to a word, one of them a plain one and one a write, one comes before the other',
  CHECK: 'what the scenario itself checks',
};
