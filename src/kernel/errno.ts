/**
 * What a caller may cause: an errno and a reason. What cannot happen is an assertion instead.
 *
 * `Errno` is no `Error`: a failing system call is ordinary, and a stack trace would cost more than the call.
 */
export type ErrnoName =
  | 'EPERM' | 'ENOENT' | 'EIO' | 'ENXIO' | 'E2BIG' | 'EBADF' | 'ENOMEM' | 'EACCES' | 'EFAULT' | 'EBUSY' | 'EEXIST' | 'ENODEV'
  | 'EINVAL' | 'ENOTTY' | 'ENOSPC' | 'ESPIPE' | 'ERANGE' | 'EDEADLOCK' | 'EOVERFLOW' | 'EBADFD' | 'EMSGSIZE' | 'EOPNOTSUPP'
  | 'EADDRINUSE' | 'EPROBE_DEFER' | 'EBADE';

export class Errno {
  readonly name: ErrnoName;
  /** What was wrong, in the caller's words. */
  readonly reason: string;
  constructor(name: ErrnoName, reason: string) {
    this.name = name;
    this.reason = reason;
  }
}

/** Ends the system call with an errno. */
export function fail(name: ErrnoName, reason: string): never {
  throw new Errno(name, reason);
}

/** The reference that an allocation gave. ENOMEM when it gave none. */
export function allocated<R extends number>(given: R): R {
  if (given === 0) fail('ENOMEM', 'kernel memory is used up');
  return given;
}

/** What cannot happen: names what was expected, where a bug of ours would otherwise go on. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}

const names: readonly ErrnoName[] = [
  'EPERM', 'ENOENT', 'EIO', 'ENXIO', 'E2BIG', 'EBADF', 'ENOMEM', 'EACCES', 'EFAULT', 'EBUSY', 'EEXIST', 'ENODEV', 'EINVAL', 'ENOTTY', 'ENOSPC',
  'ESPIPE', 'ERANGE', 'EDEADLOCK', 'EOVERFLOW', 'EBADFD', 'EMSGSIZE', 'EOPNOTSUPP', 'EADDRINUSE', 'EPROBE_DEFER', 'EBADE',
];

/** A number for shared memory (events): 0 for success, else an index of our own, not Linux's value. */
export const errnoNumber = (name: ErrnoName | null): number => (name === null ? 0 : names.indexOf(name) + 1);
export const errnoName = (number: number): ErrnoName | null => names[number - 1] ?? null;

/** The errno that ends a call, null when it succeeds. */
export function errnoOf(call: () => unknown): ErrnoName | null {
  try {
    call();
    return null;
  } catch (error) {
    if (error instanceof Errno) return error.name;
    throw error;
  }
}
