/** Forward-looking (RACES 97): two binders, each of whom finds the interface free. */
import { fail } from '../errno.ts';
import { bindLocked, enter, isBound, leave } from '../tsm.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'asks whether a device interface is bound before it takes the lock under which it binds it',
  source: 'RACES tsm-bind-race: what the check under pf0->lock in 7.2\'s pci_tsm_bind is for (model-derived; bind has no caller in 7.2)',
  caughtBy: 'T3',
  tsm: {
    bind(kernel, device, tvm, tdiId) {
      if (isBound(kernel, device, 'EINVAL')) fail('EBUSY', 'the interface is bound');
      const tsm = enter(kernel, device, 'EINVAL');
      try {
        bindLocked(kernel, device, tsm, tvm, tdiId);
      } finally {
        leave(kernel, tsm);
      }
    },
  },
});
