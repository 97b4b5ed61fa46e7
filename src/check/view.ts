/**
 * What an invariant may look at: the records of a host, as no point, through memories of its own that no control watches.
 */
import { Host, type HostBuffers } from '#hostmem/host';
import { NULL, type Ref } from '#hostmem/object';
import { IommuGroup, PciDevice } from '../kernel/iommu-group.ts';
import { KernelRoot } from '../kernel/kernel.ts';
import { PciFunction } from '../hardware/function.ts';
import { Hitless, IommuUnit, type UnitKind } from '../hardware/unit.ts';
import { IommuDomain } from '../drivers/domain.ts';
import { Hwpt } from '../kernel/hwpt.ts';
import { Ioas } from '../kernel/ioas.ts';
import { Iommufd, IommufdObject, Kind } from '../kernel/objects.ts';
import { Process } from '../kernel/process.ts';
import { blockedGroups, contexts, drivenGroups, mappings, objects, pasidsInForce, trackedRoots, type Mapping, type PasidInForce } from './records.ts';

/** What the world was like when its threads joined it: what every schedule begins with, whenever a judge begins to fold it. */
interface Beginning {
  /** Which IOAS each domain translates for: `<process>.<ioas id>`, by root frame. */
  readonly ioasOfRoot: ReadonlyMap<number, string>;
  /** In which format each domain's tables are (`formatId`), by root frame. */
  readonly formatOfRoot: ReadonlyMap<number, number>;
  /** Numbers of the groups that are owned and attached to nothing. */
  readonly blockedGroups: readonly number[];
  /** Numbers of the groups that drivers of the kernel do DMA through, once for each driver. */
  readonly drivenGroups: readonly number[];
  /** Root frames of the domains whose writes are tracked. */
  readonly trackedRoots: readonly number[];
  readonly mappings: readonly Mapping[];
  /** PASIDs of groups, and the root frames of what they go through. */
  readonly pasids: readonly PasidInForce[];
}

export class View {
  readonly host: Host;
  readonly beginning: Beginning;
  readonly #groupOfRid = new Map<number, number>();
  /** Kinds of the objects that the world was built with, by `<process>.<id>`. */
  readonly builtObjects: ReadonlyMap<string, number>;
  /** The processes that owned groups then, by the group's number. */
  readonly builtOwners: ReadonlyMap<number, number>;
  readonly #hitless = new Map<number, Hitless>();
  readonly #kindOfRid = new Map<number, UnitKind>();
  readonly #kindOfUnit = new Map<number, UnitKind>();

  constructor(buffers: HostBuffers) {
    this.host = new Host(buffers);
    const memory = this.host.kernel;
    for (const group of this.groups()) {
      for (const device of this.members(group)) {
        const pciFunction = PciDevice.function.peek(memory, device);
        const rid = PciFunction.rid.peek(memory, pciFunction);
        this.#groupOfRid.set(rid, IommuGroup.number.peek(memory, group));
        const unit = PciFunction.unit.peek(memory, pciFunction);
        if (unit === NULL) continue;
        const kind = IommuUnit.kind.peek(memory, unit) as UnitKind;
        this.#hitless.set(rid, IommuUnit.hitless.peek(memory, unit) as Hitless);
        this.#kindOfRid.set(rid, kind);
        this.#kindOfUnit.set(IommuUnit.number.peek(memory, unit), kind);
      }
    }
    const hwpts = this.#hwpts();
    this.beginning = {
      ioasOfRoot: new Map(hwpts.map(({ root, ioas }) => [root, ioas])),
      formatOfRoot: new Map(hwpts.map(({ root, format }) => [root, format])),
      blockedGroups: blockedGroups(this),
      drivenGroups: drivenGroups(this),
      trackedRoots: trackedRoots(this),
      mappings: mappings(this),
      pasids: pasidsInForce(this),
    };
    this.builtObjects = this.#kindsOfObjects();
    const numbers = this.groups().map((group) => IommuGroup.number.peek(memory, group));
    this.builtOwners = new Map(numbers.map((group) => [group, this.processOwning(group)]));
  }

  #kindsOfObjects(): Map<string, number> {
    const memory = this.host.kernel;
    const found = new Map<string, number>();
    for (const iommufd of contexts(this)) {
      const process = Process.number.peek(memory, Iommufd.process.peek(memory, iommufd));
      for (const target of objects(this, iommufd)) found.set(`${process}.${IommufdObject.id.peek(memory, target)}`, IommufdObject.kind.peek(memory, target));
    }
    return found;
  }

  get root(): Ref<'KernelRoot'> {
    return this.host.kernelRoot as Ref<'KernelRoot'>;
  }

  /** The group number of a requester id, or -1. Membership is fixed once the world is built. */
  groupOf(rid: number): number {
    return this.#groupOfRid.get(rid) ?? -1;
  }

  /** Of which replaces the unit before a requester id promises that they let no request fault. */
  hitlessOf(rid: number): Hitless {
    return this.#hitless.get(rid) ?? Hitless.NEVER;
  }

  /** Whose unit has a number, or stands before a requester id; undefined where there is none. */
  kindOfUnit(number: number): UnitKind | undefined {
    return this.#kindOfUnit.get(number);
  }
  kindOfUnitBefore(rid: number): UnitKind | undefined {
    return this.#kindOfRid.get(rid);
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

  /** The number of the process whose context owns a group, or -1. */
  processOwning(groupNumber: number): number {
    const memory = this.host.kernel;
    const group = this.groups().find((one) => IommuGroup.number.peek(memory, one) === groupNumber);
    const owner = group === undefined ? 0 : IommuGroup.owner.peek(memory, group);
    return owner === 0 ? -1 : Process.number.peek(memory, Iommufd.process.peek(memory, owner));
  }

  /** Domains of all HWPTs, by root frame and format, and whom they translate for: `<process>.<ioas id>`. */
  #hwpts(): { readonly root: number; readonly format: number; readonly ioas: string }[] {
    const memory = this.host.kernel;
    const found: { root: number; format: number; ioas: string }[] = [];
    for (const iommufd of contexts(this)) {
      const process = Process.number.peek(memory, Iommufd.process.peek(memory, iommufd));
      for (const target of objects(this, iommufd)) {
        if (IommufdObject.kind.peek(memory, target) !== Kind.HWPT) continue;
        const hwpt = IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>;
        const ioas = IommufdObject.id.peek(memory, Ioas.header.peek(memory, Hwpt.ioas.peek(memory, hwpt)));
        const domain = Hwpt.domain.peek(memory, hwpt);
        found.push({ root: IommuDomain.root.peek(memory, domain), format: IommuDomain.format.peek(memory, domain), ioas: `${process}.${ioas}` });
      }
    }
    return found;
  }
}
