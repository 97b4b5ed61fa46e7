/**
 * IOMMU_IOAS_CHANGE_PROCESS (`iommufd_ioas_change_process`): the caller pays for what the context has pinned from now on. Only pages
 * of a file can change hands, for an address means nothing in another process; without any mapping there is nothing to do.
 */
import { NULL, type Ref } from '#hostmem/object';
import { fail } from './errno.ts';
import { Ioas } from './ioas.ts';
import { Area } from './iopt-area.ts';
import type { Kernel } from './kernel.ts';
import { Iommufd, IommufdObject, Kind, lockObject, type ObjectRef } from './objects.ts';

export interface IoasChangeProcess { reserved?: number }

/** EOPNOTSUPP, EINVAL for memory that is no file's, EBUSY for a mapping that is not finished. */
export function ioasChangeProcess(kernel: Kernel, iommufd: Ref<'Iommufd'>, { reserved = 0 }: IoasChangeProcess): void {
  if (reserved !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  const taken: Ref<'Ioas'>[] = [];
  try {
    for (const ioas of holdEveryIoas(kernel, iommufd)) {
      Ioas.iovaRwsem.acquireWrite(kernel.memory, ioas);
      taken.push(ioas);
    }
    for (const ioas of taken) checkAreas(kernel, ioas);
  } finally {
    for (const ioas of taken) Ioas.iovaRwsem.releaseWrite(kernel.memory, ioas);
  }
}

/** In the order of their ids, held for the rest of the call. */
function holdEveryIoas(kernel: Kernel, iommufd: Ref<'Iommufd'>): Ref<'Ioas'>[] {
  const memory = kernel.memory;
  const found: Ref<'Ioas'>[] = [];
  Iommufd.objects.acquire(memory, iommufd);
  for (let id = Iommufd.objects.nextLocked(memory, iommufd, 0); id !== 0; id = Iommufd.objects.nextLocked(memory, iommufd, id)) {
    const header = Iommufd.objects.getLocked(memory, iommufd, id) as ObjectRef;
    if (IommufdObject.kind.peek(memory, header) !== Kind.IOAS || !lockObject(kernel, header)) continue;
    kernel.hold(header);
    found.push(IommufdObject.body.peek(memory, header) as Ref<'Ioas'>);
  }
  Iommufd.objects.release(memory, iommufd);
  return found;
}

/** The first mapping that is in the way decides. Under `iovaRwsem`. */
function checkAreas(kernel: Kernel, ioas: Ref<'Ioas'>): void {
  const memory = kernel.memory;
  const node = Ioas.areas.first(memory, ioas, 0, 0, -1, -1);
  if (node === NULL) return;
  if (Area.pages.read(memory, Ioas.areas.value(memory, node) as Ref<'Area'>) === NULL) fail('EBUSY', 'a mapping is not finished');
  fail('EINVAL', 'memory of a process is mapped');
}
