/** Forward-looking (RACES 98): the host has its device back, and a guest's interface on it still runs. */
import { variant } from '../variant.ts';

export default variant({
  mistake: 'gives a device back to the host while its interface is bound to a guest',
  source: 'RACES tsm-unbind-vs-guest-req (model-derived; forward-looking: in 7.2 nobody binds an interface)',
  caughtBy: 'T3',
  tsm: { release() {} },
});
