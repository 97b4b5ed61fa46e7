/** Names that a world gave, by the numbers that events carry. */
import type { Host } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { contextsOf, objects, processes } from './check/records.ts';
import { View } from './check/view.ts';
import { PciFunction } from './hardware/function.ts';
import { PciDevice } from './kernel/iommu-group.ts';
import { KernelRoot } from './kernel/kernel.ts';
import { IommufdObject, kindNames } from './kernel/objects.ts';
import { ownerOf, Process } from './kernel/process.ts';
import { VfioDevice } from './kernel/vfio.ts';

type Directory = Readonly<Record<string, number>>;

/** Names of PCI functions by requester id. */
export function functionNames(host: Host, directory: Directory): Map<number, string> {
  const names = new Map<number, string>();
  for (const [name, pciFunction] of functionsOf(directory)) names.set(PciFunction.rid.peek(host.kernel, pciFunction), name);
  return names;
}

/** Names of the functions behind the VFIO character devices, by number. */
export function vfioNames(host: Host, directory: Directory): string[] {
  const kernel = host.kernel;
  const byFunction = new Map([...functionsOf(directory)].map(([name, pciFunction]) => [pciFunction, name]));
  const names: string[] = [];
  let at = KernelRoot.vfioDevices.peek(kernel, host.kernelRoot);
  for (; at !== NULL; at = VfioDevice.next.peek(kernel, at)) {
    const pciFunction = PciDevice.function.peek(kernel, VfioDevice.device.peek(kernel, at));
    names[VfioDevice.number.peek(kernel, at)] = byFunction.get(pciFunction) ?? '?';
  }
  return names;
}

/** The named functions: those that have registers. */
function functionsOf(directory: Directory): [string, Ref<'PciFunction'>][] {
  return Object.keys(directory).filter((name) => `${name}.registers` in directory).map((name) => [name, directory[name] as Ref<'PciFunction'>]);
}

/** Names of processes by the number of who owns their frames. */
export function processNames(host: Host, directory: Directory): Map<number, string> {
  const names = new Map(Object.entries(directory).map(([name, value]) => [value, name]));
  return new Map(processes(new View(host.buffers)).map((process) => [ownerOf(Process.number.peek(host.kernel, process)), names.get(process) ?? 'a process']));
}

/** `IOAS 2`, `HWPT 7`, by `<process number>.<object id>`. */
export function objectNames(host: Host): Map<string, string> {
  const view = new View(host.buffers);
  const kernel = view.host.kernel;
  const names = new Map<string, string>();
  for (const process of processes(view)) {
    for (const iommufd of contextsOf(view, process)) {
      for (const target of objects(view, iommufd)) {
        const id = IommufdObject.id.peek(kernel, target);
        const kind = kindNames[IommufdObject.kind.peek(kernel, target)] ?? 'object';
        names.set(`${Process.number.peek(kernel, process)}.${id}`, `${kind} ${id}`);
      }
    }
  }
  return names;
}
