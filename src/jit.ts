/** What this process lets V8 do. */
import { setFlagsFromString } from 'node:v8';

/**
 * An access to a field is four functions of a line or three each. V8 by itself takes only the shortest for nothing, and inlines no more into one
 * function than some ten accesses have: so it spends what it may on what is in between and leaves the checks of references as calls, and the model's
 * calls are a fifth slower (`bench ioas-map-unmap`). And Node 20's optimises early: every thread has its own code, and where a schedule is found, shrunk
 * and told within a hundred others, most of the time went into compiling what was hardly run again. Later ones have a compiler between, and no such
 * flag. For the whole process, and before a thread loads its bundle: what was compiled at the build is V8's of these flags.
 */
export function tuneJit(): void {
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=4500');
  setFlagsFromString('--max-inlined-bytecode-size-small=85');
  if (process.versions.v8.startsWith('11.')) setFlagsFromString('--interrupt-budget=1000000');
}
