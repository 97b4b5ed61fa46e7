import type { TracedStep } from '#src/check/traced-step';

/** `actor OP label[@at] [value]; ...`: an execution by hand. A label without an address has one of its own. */
export function trace(text: string): TracedStep[] {
  const addresses = new Map<string, number>();
  return text.split('; ').map((line, index) => {
    const [actor, op, place, value] = line.split(' ') as [string, string, string, string?];
    const [label, at] = place.split('@') as [string, string?];
    if (!addresses.has(label)) addresses.set(label, 0x1000 + 4 * addresses.size);
    return {
      step: index + 1,
      actor: Number(actor),
      op,
      space: 1,
      at: at === undefined ? addresses.get(label)! : Number(at),
      label,
      value: value === undefined ? null : Number(value),
      guarded: false,
    };
  });
}
