/**
 * What references to HWPTs and domains meant when a schedule ended: `HWPT 8 of IOAS 2`. Memory is restored before anybody
 * can ask, so the thread that finishes a schedule writes them down in a shared buffer.
 */
import type { Ref } from '#hostmem/object';
import { contexts, objects } from './records.ts';
import type { View } from './view.ts';
import { Hwpt } from '../kernel/hwpt.ts';
import { Ioas } from '../kernel/ioas.ts';
import { IommufdObject, Kind } from '../kernel/objects.ts';

/** Most HWPTs that are written down; each takes its reference, its domain's, its id and its IOAS's. */
const capacity = 256;
const entryWords = 4;

export const namedHwptsBytes = (1 + capacity * entryWords) * 4;

export function writeHwpts(buffer: SharedArrayBuffer, view: View): void {
  const words = new Int32Array(buffer);
  const memory = view.host.kernel;
  let count = 0;
  for (const iommufd of contexts(view)) {
    for (const target of objects(view, iommufd)) {
      if (IommufdObject.kind.peek(memory, target) !== Kind.HWPT || count === capacity) continue;
      const hwpt = IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>;
      const ioas = IommufdObject.id.peek(memory, Ioas.header.peek(memory, Hwpt.ioas.peek(memory, hwpt)));
      words.set([hwpt, Hwpt.domain.peek(memory, hwpt), IommufdObject.id.peek(memory, target), ioas], 1 + count++ * entryWords);
    }
  }
  words[0] = count;
}

/** By the value of a field that refers to an HWPT or to its domain. */
export function readHwpts(buffer: SharedArrayBuffer): Map<number, string> {
  const words = new Int32Array(buffer);
  const names = new Map<number, string>();
  for (let i = 0; i < words[0]!; i++) {
    const [hwpt, domain, id, ioas] = words.subarray(1 + i * entryWords, 1 + (i + 1) * entryWords) as unknown as [number, number, number, number];
    names.set(hwpt, `HWPT ${id} of IOAS ${ioas}`);
    names.set(domain, `domain of HWPT ${id}, IOAS ${ioas}`);
  }
  return names;
}
