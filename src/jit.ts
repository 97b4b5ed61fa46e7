/** What this process lets V8 do. */
import { setFlagsFromString } from 'node:v8';

/**
 * An access to a field is five functions of a line each, and V8 by itself inlines no more into one function than some ten accesses have:
 * the model's calls are a tenth faster so (`bench ioas-map-unmap`). And it optimises early: every thread has its own code, and where a schedule is found, shrunk
 * and told within a hundred others, most of the time went into compiling what was hardly run again. For the whole process, and before a thread
 * loads its bundle: what was compiled at the build is V8's of these flags.
 */
export function tuneJit(): void {
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=3000');
  setFlagsFromString('--interrupt-budget=1000000');
}
