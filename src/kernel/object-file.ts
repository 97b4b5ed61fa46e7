/**
 * The file of an object that is read through a descriptor: fault queues and event queues (`iommufd_eventq_init`). It holds a user of the
 * object and the context until its last close.
 */
import { NULL, type Ref } from '#hostmem/object';
import { refusesAnswer } from './argument.ts';
import { fail } from './errno.ts';
import { putFile, tryCreateFile, tryGiveDescriptor } from './file.ts';
import type { Kernel } from './kernel.ts';
import { addUser, holdIommufd, IommufdObject, type ObjectRef } from './objects.ts';

/** Returns the descriptor. ENOMEM, and EFAULT where the answer cannot be written: then the object is the caller's to take back. */
export function openObjectFile(kernel: Kernel, header: ObjectRef, kind: number, arg: object): number {
  const memory = kernel.memory;
  const file = tryCreateFile(kernel, kind, IommufdObject.body.peek(memory, header));
  if (file === NULL) fail('ENOMEM', 'kernel memory is used up');
  addUser(kernel, header);
  holdIommufd(kernel, IommufdObject.iommufd.peek(memory, header));
  const refused = refusesAnswer(kernel, arg);
  const fd = refused ? -1 : tryGiveDescriptor(kernel, file);
  if (fd >= 0) return fd;
  kernel.operations.objects.abortFile(kernel, file);
  return refused ? fail('EFAULT', 'the argument cannot be written') : fail('ENOMEM', 'no descriptor is left');
}

/** Its release runs here and now (`__fput_sync`): the object that it lets go of is freed next (4e034bf045b1). */
export function abortFile(kernel: Kernel, file: Ref<'File'>): void {
  putFile(kernel, file);
}
