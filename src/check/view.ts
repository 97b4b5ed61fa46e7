/**
 * What an invariant may look at: the records of a host, as no point, through memories of its own that no control watches.
 */
import { Host, type HostBuffers } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { IommuGroup, PciDevice } from '../kernel/iommu-group.ts';
import { KernelRoot } from '../kernel/kernel.ts';
import { PciFunction } from '../hardware/function.ts';

export class View {
  readonly host: Host;
  readonly #groupOfRid = new Map<number, number>();

  constructor(buffers: HostBuffers) {
    this.host = new Host(buffers);
    const memory = this.host.kernel;
    for (const group of this.groups()) {
      for (const device of this.members(group)) {
        const rid = PciFunction.rid.peek(memory, PciDevice.function.peek(memory, device));
        this.#groupOfRid.set(rid, IommuGroup.number.peek(memory, group));
      }
    }
  }

  get root(): Ref<'KernelRoot'> {
    return this.host.kernelRoot as Ref<'KernelRoot'>;
  }

  /** The group number of a requester id, or -1. Membership is fixed once the world is built. */
  groupOf(rid: number): number {
    return this.#groupOfRid.get(rid) ?? -1;
  }

  groups(): Ref<'IommuGroup'>[] {
    const memory = this.host.kernel;
    const found: Ref<'IommuGroup'>[] = [];
    for (let at = KernelRoot.groups.peek(memory, this.root); at !== NULL; at = IommuGroup.next.peek(memory, at)) found.push(at);
    return found;
  }

  members(group: Ref<'IommuGroup'>): Ref<'PciDevice'>[] {
    const memory = this.host.kernel;
    const found: Ref<'PciDevice'>[] = [];
    for (let at = IommuGroup.members.peek(memory, group); at !== NULL; at = PciDevice.nextInGroup.peek(memory, at)) found.push(at);
    return found;
  }
}
