/** All that a failed call must leave as it was: every live object, word by word, and who owns and pins each frame. */
import { peek } from '#hostmem/atomics';
import type { Host } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { Owner } from '#hostmem/frames';
import { liveBlocks, type Ref } from '#hostmem/object';
import { nameOfType, nameOfWord } from '#hostmem/struct';

export interface Photograph {
  readonly blocks: ReadonlyMap<Ref, Taken>;
  /** By frame: its owner and its pins. Those of page tables are left out: an unmap leaves empty tables, which go with their domain. */
  readonly frames: readonly string[];
}

interface Taken {
  readonly name: string;
  readonly at: number;
  readonly words: Int32Array;
}

/**
 * What hardware keeps for itself, and what a driver keeps to talk to it: a call that moved a group there and back has talked too, and its
 * domain has other tags than before.
 */
const hardware = new Set([
  'VtdRegisters', 'VtdUnitState', 'Iotlb', 'TaggedCache', 'Atc', 'PageRequests', 'PciFunction', 'EduRegisters', 'CacheTag',
]);
const ofHardware = 'IommuDomain.firstTag';

export function takePhotograph(host: Host): Photograph {
  const memory = host.kernel;
  const blocks = new Map<Ref, Taken>();
  for (const { ref, type, at, sizeBytes } of liveBlocks(memory)) {
    const name = nameOfType(type) ?? 'Run';
    const words = Int32Array.from({ length: sizeBytes / 4 }, (_, index) => peek(memory, at + index * 4));
    if (!hardware.has(name)) blocks.set(ref, { name, at, words });
  }
  const frames: string[] = [];
  for (let frame = 1; frame < host.frames.count; frame++) {
    const owner = host.frames.ownerOf(frame as Frame);
    if (owner !== Owner.TABLE) frames.push(owner === Owner.FREE ? '' : `${owner}, ${host.frames.pinsOf(frame as Frame)} pins`);
    else frames.push('');
  }
  return { blocks, frames };
}

/** What is not as it was, in a few words; empty when all is. */
export function differences(host: Host, before: Photograph, after: Photograph): string[] {
  const found: string[] = [];
  for (const [ref, { name }] of after.blocks) if (!before.blocks.has(ref)) found.push(`a ${name} is left behind`);
  for (const [ref, { name, at, words }] of before.blocks) {
    const now = after.blocks.get(ref);
    if (now === undefined) found.push(`a ${name} is gone`);
    else found.push(...changes(host, name, at, words, now.words));
  }
  before.frames.forEach((frame, index) => {
    if (after.frames[index] !== frame) found.push(`frame ${index + 1} was ${frame === '' ? 'free' : frame} and is ${after.frames[index] || 'free'}`);
  });
  return found;
}

function changes(host: Host, name: string, at: number, before: Int32Array, after: Int32Array): string[] {
  const found: string[] = [];
  before.forEach((word, index) => {
    const field = nameOfWord(host.kernel, at + index * 4) ?? name;
    if (after[index] !== word && field !== ofHardware) found.push(`${field} was ${word} and is ${after[index]}`);
  });
  return found;
}

/** Counts by type: what two hosts have in common that came to the same state by different ways. */
export function census({ blocks, frames }: Photograph): string {
  const counts = new Map<string, number>();
  for (const { name } of blocks.values()) counts.set(name, (counts.get(name) ?? 0) + 1);
  for (const frame of frames) if (frame !== '') counts.set(frame, (counts.get(frame) ?? 0) + 1);
  return [...counts].sort().map(([name, count]) => `${name}: ${count}`).join('; ');
}
