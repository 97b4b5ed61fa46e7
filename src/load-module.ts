/**
 * Modules that are named at run time: scenarios, variants, invariants, strategies. A worker's bundle brings the ones of this project along
 * (`build.mjs`): hundreds of small files would be read and compiled anew by every thread. What it does not bring is imported.
 */
const brought = new Map<string, unknown>();

/** Called by a bundle, before anything else is loaded: modules by their place below `root`. */
export function bring(root: string, modules: Readonly<Record<string, unknown>>): void {
  for (const [path, module] of Object.entries(modules)) brought.set(new URL(path, root).href, module);
}

export async function loadModule<T>(url: string): Promise<T> {
  return (brought.get(url) ?? (await import(url))) as T;
}
