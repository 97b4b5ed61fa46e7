/** What the scheduler itself finds, by the id that it gives: no file holds these invariants. */
export const schedulerClaims: Readonly<Record<string, string>> = {
  DEADLOCK: 'somebody can always go on',
  BUDGET: 'a schedule ends within its budget of steps',
  THROWN: 'no assertion of the model fails, and no code of an actor or an invariant throws',
  NONDETERMINISM: 'a schedule that is run twice is the same twice',
  O2: 'nobody follows a reference to an object that was freed, or that is of another type',
  L2: 'a guarded field is touched only under its lock',
  CHECK: 'what the scenario itself checks',
};
