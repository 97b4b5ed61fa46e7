/** The pin that takes the access's IOAS as it finds it, beside a replace that has taken it away for the length of a callback. */
import { Access } from '../access.ts';
import { checkRange, pinReaches } from '../access-pin.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'follows the pointer to the IOAS without the lock under which it changes, and without looking whether there is one',
  source: 'cf7c2789822d, CVE-2024-26785',
  caughtBy: 'O2',
  access: {
    pin(kernel, access, iova, length, way) {
      checkRange(iova, length);
      return pinReaches(kernel, access, Access.ioas.read(kernel.memory, access), iova, iova + length - 1n, way);
    },
  },
});
