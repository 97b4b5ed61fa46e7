/** Walks over kernel records for invariants: contexts, their groups, their objects. As no point; for a host that stands still. */
import type { IdTable } from '#hostmem/id-table';
import type { Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { File, FileKind } from '../kernel/open-file.ts';
import { DomainKind, IommuDomain } from '../drivers/domain.ts';
import { PciFunction } from '../hardware/function.ts';
import { installedRoot, passesThrough } from '../hardware/installed-root.ts';
import { rootText } from '../hardware/nested-line.ts';
import { GroupPasid } from '../kernel/group-pasid.ts';
import { IommuGroup, KernelDriver, PciDevice } from '../kernel/iommu-group.ts';
import { IommufdDevice } from '../kernel/iommufd-device.ts';
import { IommufdGroup } from '../kernel/iommufd-group.ts';
import { PasidAttachment } from '../kernel/iommufd-pasid.ts';
import { KernelRoot } from '../kernel/kernel.ts';
import { Hwpt } from '../kernel/hwpt.ts';
import { Ioas } from '../kernel/ioas.ts';
import { Area } from '../kernel/iopt-area.ts';
import { Iommufd, IommufdObject, Kind, kindNames, type ObjectRef } from '../kernel/objects.ts';
import { Process } from '../kernel/process.ts';
import { Region } from '../kernel/region.ts';
import { Access, IoptAccess } from '../kernel/access.ts';
import { EventQueue } from '../kernel/event-queue.ts';
import { FaultQueue } from '../kernel/fault-queue.ts';
import { IoptDomain } from '../kernel/iopt-domains.ts';
import { TestAccess } from '../kernel/selftest/test-access.ts';
import { VfioFile } from '../kernel/vfio.ts';
import { VfioGroup } from '../kernel/vfio-group.ts';
import { pageNumber } from './dma-words.ts';
import type { View } from './view.ts';

export function processes(view: View): Ref<'Process'>[] {
  const memory = view.host.kernel;
  const found: Ref<'Process'>[] = [];
  for (let at = KernelRoot.processes.peek(memory, view.root); at !== NULL; at = Process.next.peek(memory, at)) found.push(at);
  return found;
}

/** What a process has open: descriptors and their files. */
export function descriptors(view: View, process: Ref<'Process'>): (readonly [number, Ref<'File'>])[] {
  const memory = view.host.kernel;
  const found: (readonly [number, Ref<'File'>])[] = [];
  for (let fd = Process.files.nextLocked(memory, process, 0); fd !== 0; fd = Process.files.nextLocked(memory, process, fd)) {
    found.push([fd, Process.files.getLocked(memory, process, fd) as Ref<'File'>]);
  }
  return found;
}

/** Every context that some process has open. */
export function contexts(view: View): Ref<'Iommufd'>[] {
  return [...new Set(processes(view).flatMap((process) => contextsOf(view, process)))];
}

/** The contexts that a process has open, those too that only a bound device keeps. */
export function contextsOf(view: View, process: Ref<'Process'>): Ref<'Iommufd'>[] {
  return [...new Set(filesOf(view, process).map((file) => contextOf(view, file)).filter((iommufd) => iommufd !== NULL))];
}

function contextOf(view: View, file: Ref<'File'>): Ref<'Iommufd'> {
  const memory = view.host.kernel;
  const body = File.body.peek(memory, file);
  const kind = File.kind.peek(memory, file);
  if (kind === FileKind.IOMMUFD) return body as Ref<'Iommufd'>;
  if (kind === FileKind.FAULT_QUEUE) return IommufdObject.iommufd.peek(memory, FaultQueue.header.peek(memory, body));
  if (kind === FileKind.EVENT_QUEUE) return IommufdObject.iommufd.peek(memory, EventQueue.header.peek(memory, body));
  if (kind === FileKind.TEST_ACCESS) return Access.iommufd.peek(memory, TestAccess.access.peek(memory, body));
  if (kind === FileKind.MEMFD || kind === FileKind.DMABUF) return NULL;
  if (kind === FileKind.VFIO_GROUP) return VfioGroup.iommufd.peek(memory, body);
  return VfioFile.accessGranted.peek(memory, body) === 0 ? NULL : VfioFile.iommufd.peek(memory, body);
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

/** The shares that a group's members have in PASID slots. */
export function pasidsAttached(view: View, group: Ref<'IommufdGroup'>): Ref<'PasidAttachment'>[] {
  const memory = view.host.kernel;
  const found: Ref<'PasidAttachment'>[] = [];
  for (let at = IommufdGroup.pasids.peek(memory, group); at !== NULL; at = PasidAttachment.next.peek(memory, at)) found.push(at);
  return found;
}

/** A PASID of a group, by the group's number, and the root frame of what it goes through. */
export interface PasidInForce {
  readonly group: number;
  readonly pasid: number;
  readonly root: number;
}

export function pasidsInForce(view: View): PasidInForce[] {
  const memory = view.host.kernel;
  const groups = contexts(view).flatMap((iommufd) => iommufdGroups(view, iommufd));
  return groups.flatMap((group) => pasidsAttached(view, group).map((share) => ({
    group: IommuGroup.number.peek(memory, IommufdGroup.group.peek(memory, group)),
    pasid: PasidAttachment.pasid.peek(memory, share),
    root: IommuDomain.root.peek(memory, Hwpt.domain.peek(memory, PasidAttachment.hwpt.peek(memory, share))),
  })));
}

/** What a group has attached under PASIDs, whoever did it. */
export function groupPasids(view: View, group: Ref<'IommuGroup'>): Ref<'GroupPasid'>[] {
  const memory = view.host.kernel;
  const found: Ref<'GroupPasid'>[] = [];
  for (let at = IommuGroup.pasids.peek(memory, group); at !== NULL; at = GroupPasid.next.peek(memory, at)) found.push(at);
  return found;
}

/** HWPTs of a context that drivers of the kernel have attached under PASIDs of a function, for its shares: those of no slot; once for each PASID. */
export function hwptsOfShares(view: View, iommufd: Ref<'Iommufd'>): Ref<'Hwpt'>[] {
  const memory = view.host.kernel;
  const attached = view.groups().flatMap((group) => groupPasids(view, group));
  if (attached.length === 0) return [];
  const slots = new Set(pasidsInForce(view).map(({ group, pasid }) => `${group}.${pasid}`));
  const nameOfPasid = (at: Ref<'GroupPasid'>): string => `${IommuGroup.number.peek(memory, GroupPasid.group.peek(memory, at))}.${GroupPasid.pasid.peek(memory, at)}`;
  const hwpts = bodies<'Hwpt'>(view, iommufd, Kind.HWPT);
  const ofShares = attached.filter((at) => !slots.has(nameOfPasid(at)));
  return ofShares.flatMap((at) => hwpts.filter((hwpt) => Hwpt.domain.peek(memory, hwpt) === GroupPasid.domain.peek(memory, at)));
}

/** The published objects of a context. */
export function objects(view: View, iommufd: Ref<'Iommufd'>): ObjectRef[] {
  return published(view.host.kernel, Iommufd.objects, iommufd) as ObjectRef[];
}

/** Numbers of the groups that a user owns and that are attached to nothing. */
export function blockedGroups(view: View): number[] {
  const memory = view.host.kernel;
  const isBlocked = (group: Ref<'IommuGroup'>): boolean => IommuGroup.domain.peek(memory, group) === IommuGroup.blockingDomain.peek(memory, group);
  const found = view.groups().filter((group) => IommuGroup.owner.peek(memory, group) !== 0 && isBlocked(group));
  return found.map((group) => IommuGroup.number.peek(memory, group));
}

/** Numbers of the groups with a driver that does DMA through the default domain, once for each driver. */
export function drivenGroups(view: View): number[] {
  const memory = view.host.kernel;
  return view.groups().flatMap((group) => driversOf(view, group).map(() => IommuGroup.number.peek(memory, group)));
}

/** The members with such a driver. */
export const driversOf = (view: View, group: Ref<'IommuGroup'>): Ref<'PciDevice'>[] =>
  view.members(group).filter((device) => PciDevice.kernelDriver.peek(view.host.kernel, device) === KernelDriver.DEFAULT_DOMAIN);

/** A mapping of an IOAS, which is `<process>.<ioas id>`; pages of 4 KiB by number, `permissions` as `Access` bits. */
export interface Mapping {
  readonly ioas: string;
  readonly first: number;
  readonly pages: number;
  readonly permissions: number;
}

/** What all IOASes map. */
export function mappings(view: View): Mapping[] {
  const memory = view.host.kernel;
  const found: Mapping[] = [];
  for (const iommufd of contexts(view)) {
    const process = Process.number.peek(memory, Iommufd.process.peek(memory, iommufd));
    for (const target of objects(view, iommufd)) {
      if (IommufdObject.kind.peek(memory, target) !== Kind.IOAS) continue;
      const ioas = IommufdObject.body.peek(memory, target) as Ref<'Ioas'>;
      for (let node = Ioas.areas.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.areas.next(memory, ioas, node, 0, 0, -1, -1)) {
        const area = Ioas.areas.value(memory, node) as Ref<'Area'>;
        const first = pageNumber(Ioas.areas.startHigh(memory, node), Ioas.areas.startLow(memory, node));
        const permissions = Area.permissions.peek(memory, area);
        found.push({ ioas: `${process}.${IommufdObject.id.peek(memory, target)}`, first, pages: Area.pageCount.peek(memory, area), permissions });
      }
    }
  }
  return found;
}

/** Root frames of the domains whose writes are tracked. */
export function trackedRoots(view: View): number[] {
  const memory = view.host.kernel;
  const hwpts = contexts(view)
    .flatMap((iommufd) => objects(view, iommufd))
    .filter((target) => IommufdObject.kind.peek(memory, target) === Kind.HWPT)
    .map((target) => IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>);
  return hwpts.filter((hwpt) => Hwpt.tracking.peek(memory, hwpt) !== 0).map((hwpt) => IommuDomain.root.peek(memory, Hwpt.domain.peek(memory, hwpt)));
}

/** The bodies of those of one kind. */
export function bodies<T extends string>(view: View, iommufd: Ref<'Iommufd'>, kind: Kind): Ref<T>[] {
  const memory = view.host.kernel;
  return objects(view, iommufd).filter((target) => IommufdObject.kind.peek(memory, target) === kind).map((target) => IommufdObject.body.peek(memory, target) as Ref<T>);
}

/** Records by what they refer to. */
export function grouped<R extends Ref, K extends Ref>(records: readonly R[], of: (record: R) => K): Map<K, R[]> {
  const found = new Map<K, R[]>();
  for (const record of records) {
    const key = of(record);
    const known = found.get(key);
    if (known === undefined) found.set(key, [record]);
    else known.push(record);
  }
  return found;
}

/** What a process keeps open, once for each descriptor and each mapping. */
export function filesOf(view: View, process: Ref<'Process'>): Ref<'File'>[] {
  const memory = view.host.kernel;
  const mapped = regionsOf(view, process).map((region) => Region.file.peek(memory, region));
  return [...(published(memory, Process.files, process) as Ref<'File'>[]), ...mapped.filter((file) => file !== NULL)];
}

/** What a process has mapped. */
export function regionsOf(view: View, process: Ref<'Process'>): Ref<'Region'>[] {
  const memory = view.host.kernel;
  const { regions } = Process;
  const found: Ref<'Region'>[] = [];
  for (let node = regions.first(memory, process, 0, 0, -1, -1); node !== NULL; node = regions.next(memory, process, node, 0, 0, -1, -1)) found.push(regions.value(memory, node));
  return found;
}

/** The domains that an IOAS keeps filled. */
export function domainsOf(view: View, ioas: Ref<'Ioas'>): Ref<'IommuDomain'>[] {
  const memory = view.host.kernel;
  const found: Ref<'IommuDomain'>[] = [];
  for (let at = Ioas.domains.peek(memory, ioas); at !== NULL; at = IoptDomain.next.peek(memory, at)) found.push(IoptDomain.domain.peek(memory, at));
  return found;
}

/** The areas of an IOAS, also those in transit, in the order of their iovas. */
export function areasOf(view: View, ioas: Ref<'Ioas'>): Ref<'Area'>[] {
  const memory = view.host.kernel;
  const found: Ref<'Area'>[] = [];
  for (let node = Ioas.areas.first(memory, ioas, 0, 0, -1, -1); node !== NULL; node = Ioas.areas.next(memory, ioas, node, 0, 0, -1, -1)) {
    found.push(Ioas.areas.value(memory, node));
  }
  return found;
}

/** All sets of pages that some area maps. */
export function pagesOf(view: View): Set<Ref<'Pages'>> {
  const areas = contexts(view).flatMap((iommufd) => bodies<'Ioas'>(view, iommufd, Kind.IOAS).flatMap((ioas) => areasOf(view, ioas)));
  return new Set(areas.map((area) => Area.transit.peek(view.host.kernel, area)));
}

/** Accesses that are attached to an IOAS, also one that is on its way in or out. */
export function accessesOf(view: View, ioas: Ref<'Ioas'>): Ref<'Access'>[] {
  const memory = view.host.kernel;
  const found: Ref<'Access'>[] = [];
  for (let at = Ioas.accesses.peek(memory, ioas); at !== NULL; at = IoptAccess.next.peek(memory, at)) found.push(IoptAccess.access.peek(memory, at));
  return found;
}

/** `IOAS 2`, by its object. */
export function nameOf(view: View, target: ObjectRef): string {
  const memory = view.host.kernel;
  return `${kindNames[IommufdObject.kind.peek(memory, target)]} ${IommufdObject.id.peek(memory, target)}`;
}

/** The member, none that is being reset, whose table entry is not the one of the group's domain, as the end of a sentence; null when there is none. */
export function strayMember(view: View, group: Ref<'IommuGroup'>): string | null {
  const memory = view.host.kernel;
  const domain = IommuGroup.domain.peek(memory, group);
  const isIdentity = IommuDomain.kind.peek(memory, domain) === DomainKind.IDENTITY;
  const expected = isIdentity ? passesThrough : IommuDomain.root.peek(memory, domain);
  for (const device of view.members(group)) {
    const pciFunction = PciDevice.function.peek(memory, device);
    // No unit stands before a mock device: what its driver keeps of it is all there is.
    if (PciFunction.unit.peek(memory, pciFunction) === NULL || PciDevice.blocked.peek(memory, device) !== 0) continue;
    const installed = installedRoot(view.host, pciFunction);
    if (installed === expected) continue;
    return `is on ${rootName(expected)}, but function ${addressText(PciFunction.rid.peek(memory, pciFunction))} translates through ${rootName(installed)}`;
  }
  return null;
}

/** `00:05.1`: bus, device, function. */
export function addressText(rid: number): string {
  const hex = (value: number): string => value.toString(16).padStart(2, '0');
  return `${hex(rid >>> 8)}:${hex((rid >>> 3) & 0x1f)}.${rid & 7}`;
}

function rootName(root: number): string {
  if (root === 0) return 'blocking';
  return root === passesThrough ? 'identity' : `the domain with ${rootText(root)}`;
}

/** What a table holds, read without its lock: nobody changes it now. */
function published(memory: Memory, table: IdTable, at: number): Ref[] {
  const found: Ref[] = [];
  for (let id = table.nextLocked(memory, at, 0); id !== 0; id = table.nextLocked(memory, at, id)) found.push(table.getLocked(memory, at, id));
  return found;
}
