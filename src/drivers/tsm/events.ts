/** What a TSM reports of its calls: what its firmware did, whatever the kernel's records say. */
import { event } from '#hostmem/history';

/** A device interface was bound to a guest (`pci_tdi.kvm`), or is bound to nobody any more; `before` is whose it was, 0 for nobody. */
export const TdiBound = event('tdi bound', ['function', 'guest', 'before']);
export const TdiUnbound = event('tdi unbound', ['function', 'guest']);
/** A guest's request was carried out: `scope` is a `RequestScope`, `guest` whom the interface is bound to, 0 for nobody. */
export const GuestRequested = event('guest requested', ['function', 'scope', 'what', 'guest']);
