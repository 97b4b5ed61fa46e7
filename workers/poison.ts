/**
 * Takes away, for as long as a schedule is controlled, the globals by which it would not be the same every time: clocks,
 * randomness, timers, and what shows the garbage collector at work. Whoever uses one ends the schedule, and is told which.
 */

const objects = ['Date', 'performance', 'crypto', 'WeakRef', 'FinalizationRegistry'];
const functions = ['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'fetch'];

/** Runs the body without them. */
export function withoutClocks(body: () => void): void {
  const restore = [
    ...[...objects, ...functions].map((name) => replace(globalThis, name, name)),
    replace(Math, 'random', 'Math.random'),
    replace(process, 'hrtime', 'process.hrtime'),
    replace(process, 'nextTick', 'process.nextTick'),
  ];
  try {
    body();
  } finally {
    for (const one of restore) one();
  }
}

/** Returns what puts the original back. */
function replace(owner: object, member: string, name: string): () => void {
  const original = Object.getOwnPropertyDescriptor(owner, member)!;
  Object.defineProperty(owner, member, { value: poison(name), configurable: true, writable: true });
  return () => void Object.defineProperty(owner, member, original);
}

function poison(name: string): object {
  const refuse = (): never => {
    throw new Error(`${name} is not there in a controlled run: a schedule is the same every time`);
  };
  return new Proxy(refuse, { get: refuse, apply: refuse, construct: refuse });
}
