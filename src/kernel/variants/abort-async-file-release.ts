/** The failed create that closes its file with `fput`: the release runs when the object is gone. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'leaves the release of an aborted object\'s file to the end of the system call, and frees the object at once',
  source: '4e034bf045b1, CVE-2025-39966',
  caughtBy: 'O2',
  objects: { abortFile: (kernel, file) => kernel.putLater(file) },
});
