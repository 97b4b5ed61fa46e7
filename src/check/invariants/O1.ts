/** O1, reference counts are exact at quiescence: of objects, contexts, files and groups. */
import { NULL, type Ref } from '#hostmem/object';
import { Access, IoptAccess } from '../../kernel/access.ts';
import { EventQueue } from '../../kernel/event-queue.ts';
import { FaultQueue } from '../../kernel/fault-queue.ts';
import { File, FileKind, referencesOf } from '../../kernel/open-file.ts';
import { HwQueue } from '../../kernel/hw-queue.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { IommuGroup } from '../../kernel/iommu-group.ts';
import { IommufdDevice } from '../../kernel/iommufd-device.ts';
import { IommufdGroup } from '../../kernel/iommufd-group.ts';
import { PasidAttachment } from '../../kernel/iommufd-pasid.ts';
import { fileOf, IommufdObject, Kind, type ObjectRef } from '../../kernel/objects.ts';
import { Pages } from '../../kernel/pages.ts';
import { Region } from '../../kernel/region.ts';
import { TestDevice } from '../../kernel/selftest/test-device.ts';
import { Vdevice } from '../../kernel/vdevice.ts';
import { VfioFile } from '../../kernel/vfio.ts';
import { VfioGroup } from '../../kernel/vfio-group.ts';
import { Viommu } from '../../kernel/viommu.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { bodies, contexts, driversOf, filesOf, grouped, hwptsOfShares, iommufdGroups, membersAttached, nameOf, objects, pagesOf, pasidsAttached, processes, regionsOf } from '../records.ts';
import type { View } from '../view.ts';

export default invariant<null>({
  id: 'O1',
  claim: 'at rest, users is one for the table and one for each referrer, nobody is inside a call with the object, and contexts, files and groups count who has them',
  events: [],
  start: () => null,
  step: () => null,
  inspect(_state, view) {
    const held = heldFiles(view);
    const files = [...held.keys()];
    for (const iommufd of contexts(view)) {
      const found = compareObjects(view, iommufd, files) ?? compareGroups(view, iommufd);
      if (found !== null) return found;
    }
    return compareFiles(view, held) ?? compareOwners(view);
  },
});

function compareObjects(view: View, iommufd: Ref<'Iommufd'>, files: readonly Ref<'File'>[]): Breach | null {
  const memory = view.host.kernel;
  const counts = new Counts(view);
  for (const target of objects(view, iommufd)) counts.addObject(target);
  for (const group of iommufdGroups(view, iommufd)) counts.addAttachments(group);
  for (const hwpt of hwptsOfShares(view, iommufd)) counts.addShare(hwpt);
  for (const file of files) counts.addFile(file);
  for (const process of processes(view)) for (const region of regionsOf(view, process)) counts.addRegion(region);
  for (const target of objects(view, iommufd)) {
    const name = nameOf(view, target);
    const users = IommufdObject.users.peek(memory, target);
    const waiting = IommufdObject.waitCount.peek(memory, target) - counts.waiting(target);
    const word = [{ space: 1, at: IommufdObject.users.address(memory, target) }] as const;
    if (users !== counts.users(target)) return breach(`${name} has users ${users}, ${counts.users(target)} refer to it`, word);
    if (waiting !== 1) return breach(`${name} has wait count ${waiting} while nobody is inside a call`, word);
  }
  return null;
}

/** The edges of A9, counted from the records. */
class Counts {
  readonly #view: View;
  readonly #users = new Map<ObjectRef, number>();
  readonly #waiting = new Map<ObjectRef, number>();

  constructor(view: View) {
    this.#view = view;
  }

  users(target: ObjectRef): number {
    return this.#users.get(target) ?? 0;
  }
  /** Who stays inside for longer than a call. */
  waiting(target: ObjectRef): number {
    return this.#waiting.get(target) ?? 0;
  }

  /** What the object holds: always itself, by its table. */
  addObject(target: ObjectRef): void {
    const memory = this.#view.host.kernel;
    const kind = IommufdObject.kind.peek(memory, target);
    const body = IommufdObject.body.peek(memory, target);
    this.#refer(target);
    if (kind === Kind.HWPT) this.#refer(Ioas.header.peek(memory, Hwpt.ioas.peek(memory, body)));
    if (kind === Kind.HWPT || kind === Kind.NESTED_HWPT) this.#addFaultQueue(body as Ref<'Hwpt'>);
    if (kind === Kind.NESTED_HWPT) this.#addParent(body as Ref<'Hwpt'>);
    if (kind === Kind.VIOMMU) this.#refer(Hwpt.header.peek(memory, Viommu.hwpt.peek(memory, body)));
    if (kind === Kind.VDEVICE) this.#addVdevice(body as Ref<'Vdevice'>);
    if (kind === Kind.EVENT_QUEUE) this.#refer(Viommu.header.peek(memory, EventQueue.viommu.peek(memory, body)));
    if (kind === Kind.HW_QUEUE) this.#addHwQueue(body as Ref<'HwQueue'>);
    if (kind === Kind.IOAS) this.#addAccesses(target, body as Ref<'Ioas'>);
    // The driver that made it: VFIO, or who does DMA by software.
    if (kind === Kind.DEVICE || kind === Kind.ACCESS) this.#refer(target);
  }

  /** Each member's share of its group's attachments holds the HWPT, and the device itself. */
  addAttachments(group: Ref<'IommufdGroup'>): void {
    const memory = this.#view.host.kernel;
    for (const device of membersAttached(this.#view, group)) {
      const own = IommufdDevice.hwpt.peek(memory, device);
      this.#refer(Hwpt.header.peek(memory, own !== NULL ? own : IommufdGroup.hwpt.peek(memory, group)));
      this.#refer(IommufdDevice.header.peek(memory, device));
    }
    for (const share of pasidsAttached(this.#view, group)) {
      this.#refer(Hwpt.header.peek(memory, PasidAttachment.hwpt.peek(memory, share)));
      this.#refer(IommufdDevice.header.peek(memory, PasidAttachment.device.peek(memory, share)));
    }
  }

  /** A share of a function holds what it reaches. */
  addShare(hwpt: Ref<'Hwpt'>): void {
    this.#refer(Hwpt.header.peek(this.#view.host.kernel, hwpt));
  }

  /** A queue's descriptor, until its last close. */
  addFile(file: Ref<'File'>): void {
    const memory = this.#view.host.kernel;
    const kind = File.kind.peek(memory, file);
    const body = File.body.peek(memory, file);
    if (kind === FileKind.FAULT_QUEUE) this.#refer(FaultQueue.header.peek(memory, body));
    if (kind === FileKind.EVENT_QUEUE) this.#refer(EventQueue.header.peek(memory, body));
  }

  /** Registers that a process has mapped. */
  addRegion(region: Ref<'Region'>): void {
    const shown = Region.object.peek(this.#view.host.kernel, region);
    if (shown !== NULL) this.#refer(shown);
  }

  #addFaultQueue(hwpt: Ref<'Hwpt'>): void {
    const queue = Hwpt.faultQueue.peek(this.#view.host.kernel, hwpt);
    if (queue !== NULL) this.#refer(FaultQueue.header.peek(this.#view.host.kernel, queue));
  }

  #addParent(hwpt: Ref<'Hwpt'>): void {
    const memory = this.#view.host.kernel;
    const viommu = Hwpt.viommu.peek(memory, hwpt);
    this.#refer(viommu === NULL ? Hwpt.header.peek(memory, Hwpt.parent.peek(memory, hwpt)) : Viommu.header.peek(memory, viommu));
  }

  #addVdevice(vdevice: Ref<'Vdevice'>): void {
    const memory = this.#view.host.kernel;
    const device = IommufdDevice.header.peek(memory, Vdevice.device.peek(memory, vdevice));
    this.#refer(Viommu.header.peek(memory, Vdevice.viommu.peek(memory, vdevice)));
    this.#refer(device);
    this.#waiting.set(device, this.waiting(device) + 1);
  }

  #addHwQueue(queue: Ref<'HwQueue'>): void {
    const memory = this.#view.host.kernel;
    this.#refer(Viommu.header.peek(memory, HwQueue.viommu.peek(memory, queue)));
    this.#refer(Access.header.peek(memory, HwQueue.access.peek(memory, queue)));
    const before = HwQueue.before.peek(memory, queue);
    if (before !== NULL) this.#refer(HwQueue.header.peek(memory, before));
  }

  #addAccesses(target: ObjectRef, ioas: Ref<'Ioas'>): void {
    const memory = this.#view.host.kernel;
    for (let at = Ioas.accesses.peek(memory, ioas); at !== NULL; at = IoptAccess.next.peek(memory, at)) this.#refer(target);
  }

  #refer(target: ObjectRef): void {
    this.#users.set(target, this.users(target) + 1);
  }
}

/** Devices of a context that share a group. */
function compareGroups(view: View, iommufd: Ref<'Iommufd'>): Breach | null {
  const memory = view.host.kernel;
  const devices = grouped(bodies<'IommufdDevice'>(view, iommufd, Kind.DEVICE), (device) => IommufdDevice.group.peek(memory, device));
  for (const group of iommufdGroups(view, iommufd)) {
    const bound = devices.get(group)?.length ?? 0;
    const references = IommufdGroup.references.peek(memory, group);
    const number = IommuGroup.number.peek(memory, IommufdGroup.group.peek(memory, group));
    if (references !== bound) return breach(`group ${number} has ${references} references in its context, ${bound} of its devices are bound`);
  }
  return null;
}

/**
 * Every file that is open, with how many hold it: descriptors, mappings of memory and sets of pages; of a context also the files of its queues and of what is
 * bound to it, its devices and accesses themselves, and shares that reach one of its HWPTs.
 */
function heldFiles(view: View): Map<Ref<'File'>, number> {
  const memory = view.host.kernel;
  const found = new Map<Ref<'File'>, number>();
  const hold = (file: Ref<'File'>, times: number = 1): unknown => found.set(file, (found.get(file) ?? 0) + times);
  for (const process of processes(view)) for (const file of filesOf(view, process)) hold(file);
  for (const pages of pagesOf(view)) {
    const file = Pages.file.peek(memory, pages);
    if (file !== NULL) hold(file);
  }
  for (const file of found.keys()) {
    const iommufd = keptBy(view, file);
    if (iommufd !== NULL) hold(fileOf(iommufd));
  }
  for (const iommufd of contexts(view)) {
    const selftest = new Set(bodies<'TestDevice'>(view, iommufd, Kind.SELFTEST).map((made) => TestDevice.device.peek(memory, made)));
    const devices = bodies<'IommufdDevice'>(view, iommufd, Kind.DEVICE).filter((device) => !selftest.has(device));
    hold(fileOf(iommufd), devices.length + bodies<'Access'>(view, iommufd, Kind.ACCESS).length + hwptsOfShares(view, iommufd).length);
  }
  return found;
}

function compareFiles(view: View, held: ReadonlyMap<Ref<'File'>, number>): Breach | null {
  const memory = view.host.kernel;
  for (const [file, times] of held) {
    const references = referencesOf(memory, file);
    if (references === times) continue;
    const isContext = File.kind.peek(memory, file) === FileKind.IOMMUFD;
    return breach(`a ${isContext ? 'context' : 'file'} has ${references} references, ${times} keep it`);
  }
  return null;
}

/** The context that a file of another kind keeps. */
function keptBy(view: View, file: Ref<'File'>): Ref<'Iommufd'> {
  const memory = view.host.kernel;
  const body = File.body.peek(memory, file);
  switch (File.kind.peek(memory, file)) {
    case FileKind.FAULT_QUEUE:
      return IommufdObject.iommufd.peek(memory, FaultQueue.header.peek(memory, body));
    case FileKind.EVENT_QUEUE:
      return IommufdObject.iommufd.peek(memory, EventQueue.header.peek(memory, body));
    case FileKind.VFIO:
      return VfioFile.accessGranted.peek(memory, body) === 0 ? NULL : VfioFile.iommufd.peek(memory, body);
    case FileKind.VFIO_GROUP:
      return VfioGroup.iommufd.peek(memory, body);
    default:
      return NULL;
  }
}

/** Claims of a group's ownership: one a bound device. */
function compareOwners(view: View): Breach | null {
  const memory = view.host.kernel;
  const claims = new Map<Ref<'IommuGroup'>, number>();
  for (const iommufd of contexts(view)) {
    for (const device of bodies<'IommufdDevice'>(view, iommufd, Kind.DEVICE)) {
      const group = IommufdGroup.group.peek(memory, IommufdDevice.group.peek(memory, device));
      claims.set(group, (claims.get(group) ?? 0) + 1);
    }
  }
  for (const group of view.groups()) {
    const count = IommuGroup.ownerCount.peek(memory, group);
    if (IommuGroup.owner.peek(memory, group) === 0 && count === driversOf(view, group).length) continue;
    const wanted = claims.get(group) ?? 0;
    if (count !== wanted) return breach(`group ${IommuGroup.number.peek(memory, group)} is claimed ${count} times, ${wanted} of its devices are bound`);
  }
  return null;
}
