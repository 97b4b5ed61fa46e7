/** Capabilities as cap_to_text(3) writes them: clauses such as `=ep` and `cap_ipc_lock,cap_chown-e`. Only the effective set is looked at. */
import { Capability } from '../kernel/accounting.ts';

const numbers: { readonly [name: string]: number } = { cap_ipc_lock: Capability.IPC_LOCK, cap_sys_resource: Capability.SYS_RESOURCE };

/** The effective set, a bit each, after the clauses were applied to `before`. Capabilities that the model does not know are passed over. */
export function capabilitiesAfter(text: string, before: number): number {
  let effective = before;
  for (const clause of text.trim().split(/\s+/)) {
    const [, names = '', actions = ''] = /^([a-z_0-9,]*)((?:[=+-][eip]*)+)$/.exec(clause) ?? [];
    const mask = maskOf(names);
    for (const [, operator, flags = ''] of actions.matchAll(/([=+-])([eip]*)/g)) {
      if (operator === '=') effective &= ~mask;
      if (flags.includes('e')) effective = operator === '-' ? effective & ~mask : effective | mask;
    }
  }
  return effective;
}

/** No names, and `all`, are all of them. */
function maskOf(names: string): number {
  if (names === '' || names === 'all') return -1;
  return names.split(',').reduce((mask, name) => (numbers[name] === undefined ? mask : mask | (1 << numbers[name])), 0);
}
