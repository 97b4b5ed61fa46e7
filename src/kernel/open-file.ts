/** The record of an open file, and who holds it (`struct file`, `file_ref_t`). */
import { silent } from '#hostmem/atomics';
import type { Memory } from '#hostmem/memory';
import { poison, type Ref } from '#hostmem/object';
import { onNewLine, typesafeObject, u32 } from '#hostmem/struct';
import type { Kernel } from './kernel.ts';

export const FileKind = { IOMMUFD: 1, VFIO: 2, FAULT_QUEUE: 3, VFIO_GROUP: 4, EVENT_QUEUE: 5, TEST_ACCESS: 6, MEMFD: 7, DMABUF: 8 } as const;

/**
 * A descriptor is looked up without a lock (`__fget_files_rcu`), and so the block of a file never becomes anything else, and its count says which of
 * the files in it is meant.
 */
export const File = typesafeObject('File', {
  kind: u32,
  /** `VfioFile`, `FaultQueue`, `EventQueue`, `VfioGroup`, `TestAccess`, `Memfd` or `Dmabuf`; an `Iommufd` is the file itself. */
  body: u32,
  /** How many hold it; above, bits of its own reference (`tagOf`). */
  references: onNewLine(u32),
});

const countMask = 0xfffff;
/** What stands above the count of a file. */
const tagOf = (file: Ref<'File'>): number => file & ~countMask;
/** How many hold a file: for oracles. */
export const referencesOf = (memory: Memory, file: Ref<'File'>): number => File.references.peek(memory, file) & countMask;

/** What a new file is, with the one reference that is the caller's. */
export function initialiseFile(memory: Memory, file: Ref<'File'>, kind: number, body: number): void {
  File.kind.poke(memory, file, kind);
  File.body.poke(memory, file, body);
  File.references.poke(memory, file, tagOf(file) | 1);
}

/** How many held the file that this thread held last, which is the guess for the next: who reads before it writes waits for the line twice. */
let usual = 1;

/** One more reference, unless there is none: for who looked without a lock. */
export function tryHoldFile(memory: Memory, file: Ref<'File'>): boolean {
  const at = File.addressIfLive(memory, file);
  if (at === 0) return false;
  const tag = tagOf(file);
  for (let guess = tag | usual; ; ) {
    const found = silent.compareExchange(memory, at + File.references.offsetBytes, guess, guess + 1);
    const holders = found & countMask;
    if (found - holders !== tag || holders === 0 || found === poison) return false;
    usual = holders;
    if (found === guess) return true;
    guess = found;
  }
}

/** One more reference, as no point: the caller has the lock of a table that the file is in. */
export function holdFound(memory: Memory, file: Ref<'File'>): void {
  silent.add(memory, File.references.address(memory, file), 1);
}

/** One more reference; the caller knows that the file is open. */
export function holdFile(kernel: Kernel, file: Ref<'File'>): void {
  File.references.add(kernel.memory, file, 1);
}

/** One reference less. Returns whether it was the last. */
export const dropFile = (kernel: Kernel, file: Ref<'File'>): boolean => (File.references.add(kernel.memory, file, -1) & countMask) === 1;
