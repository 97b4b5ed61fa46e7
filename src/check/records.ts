/** Walks over kernel records for invariants: contexts, their groups, their objects. As no point; for a host that stands still. */
import type { IdTable } from '#hostmem/id-table';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { File, FileKind } from '../kernel/file.ts';
import { IommufdDevice, IommufdGroup } from '../kernel/iommufd-device.ts';
import { KernelRoot } from '../kernel/kernel.ts';
import { Iommufd, type ObjectRef } from '../kernel/objects.ts';
import { Process } from '../kernel/process.ts';
import type { View } from './view.ts';

export function processes(view: View): Ref<'Process'>[] {
  const memory = view.host.kernel;
  const found: Ref<'Process'>[] = [];
  for (let at = KernelRoot.processes.peek(memory, view.root); at !== NULL; at = Process.next.peek(memory, at)) found.push(at);
  return found;
}

/** Every context that some process has open. */
export function contexts(view: View): Ref<'Iommufd'>[] {
  return [...new Set(processes(view).flatMap((process) => contextsOf(view, process)))];
}

/** The contexts that a process has open. */
export function contextsOf(view: View, process: Ref<'Process'>): Ref<'Iommufd'>[] {
  const memory = view.host.kernel;
  const files = published(memory, Process.files, process) as Ref<'File'>[];
  return files.filter((file) => File.kind.peek(memory, file) === FileKind.IOMMUFD).map((file) => File.body.peek(memory, file) as Ref<'Iommufd'>);
}

export function iommufdGroups(view: View, iommufd: Ref<'Iommufd'>): Ref<'IommufdGroup'>[] {
  const memory = view.host.kernel;
  const found: Ref<'IommufdGroup'>[] = [];
  for (let at = Iommufd.groups.peek(memory, iommufd); at !== NULL; at = IommufdGroup.next.peek(memory, at)) found.push(at);
  return found;
}

export function membersAttached(view: View, group: Ref<'IommufdGroup'>): Ref<'IommufdDevice'>[] {
  const memory = view.host.kernel;
  const found: Ref<'IommufdDevice'>[] = [];
  let at = IommufdGroup.attached.peek(memory, group);
  for (; at !== NULL; at = IommufdDevice.nextAttached.peek(memory, at)) found.push(at);
  return found;
}

/** The published objects of a context. */
export function objects(view: View, iommufd: Ref<'Iommufd'>): ObjectRef[] {
  return published(view.host.kernel, Iommufd.objects, iommufd) as ObjectRef[];
}

/** What a table holds, read without its lock: nobody changes it now. */
function published(memory: Memory, table: IdTable, at: number): Ref[] {
  const found: Ref[] = [];
  for (let id = table.nextLocked(memory, at, 0); id !== 0; id = table.nextLocked(memory, at, id)) found.push(table.getLocked(memory, at, id));
  return found;
}
