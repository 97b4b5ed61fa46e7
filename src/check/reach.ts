/**
 * Why a device reaches an address, or where that ends: its group and domain, the entries that hardware reads on the way, and what caches hold of
 * it. The way is gone by the hardware's own code without its caches, over memories that no schedule watches; nothing is written.
 */
import { amdV1 } from '#hostmem/formats/amd-v1';
import { smmuStage1 } from '#hostmem/formats/smmu-stage-1';
import { smmuStage2 } from '#hostmem/formats/smmu-stage-2';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import type { Host } from '#hostmem/host';
import { pageNumber } from '#hostmem/iova';
import type { Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { PageWalker, WalkFault, WalkResult } from '#hostmem/page-walk';
import { DomainKind, IommuDomain } from '../drivers/domain.ts';
import { DeviceTable } from '../hardware/amd/unit.ts';
import { DevicePasid } from '../drivers/vtd/device-pasid.ts';
import { IommuDevice } from '../drivers/driver.ts';
import { ridPasid } from '../drivers/vtd/pasid-entry.ts';
import { Atc, atcOwnerOf } from '../hardware/atc.ts';
import { PciFunction } from '../hardware/function.ts';
import { doubledHigh, doubledLow, isBeyond, mockFormat } from '../hardware/mock/format.ts';
import { mockFunction } from '../hardware/mock/unit.ts';
import { iotlbLines } from '../hardware/iotlb.ts';
import { RiscvRequest, RiscvTranslation } from '../hardware/riscv/translation.ts';
import { EventClass, eventOf } from '../hardware/smmuv3/events.ts';
import { Streams } from '../hardware/smmuv3/streams.ts';
import { taggedLines } from '../hardware/tagged-cache.ts';
import { noRequester, type Requester } from '../hardware/translation-unit.ts';
import { IommuUnit, UnitKind } from '../hardware/unit.ts';
import { NestedWalk, WalkStep } from '../hardware/vtd/nested-walk.ts';
import { VtdRequesters } from '../hardware/vtd/requester.ts';
import { Hwpt } from '../kernel/hwpt.ts';
import { IommufdGroup } from '../kernel/iommufd-group.ts';
import { PasidAttachment } from '../kernel/iommufd-pasid.ts';
import { IommuGroup } from '../kernel/iommu-group.ts';
import { Ioas } from '../kernel/ioas.ts';
import { Iommufd, IommufdObject, Kind } from '../kernel/objects.ts';
import { Process } from '../kernel/process.ts';
import { contexts, iommufdGroups, objects, pasidsAttached } from './records.ts';
import { ReadLog, type ReadEntry } from './read-log.ts';
import type { View } from './view.ts';

export interface CachedLine {
  readonly cache: 'IOTLB' | 'device TLB' | 'entry cache';
  /** Domain id, address space or VMID of the line. */
  readonly tag: number;
  /** The frame that it leads to, and `Access` bits; null for an entry of the requester, which leads to none. */
  readonly frame: number | null;
  readonly permissions: number | null;
}

export interface Reach {
  readonly requesterId: number;
  readonly group: number;
  /** Null for requests without one. */
  readonly pasid: number | null;
  /** What the group, or the PASID of it, is on, as its user and the core know it: `HWPT 5 of IOAS 2`, `blocked`. */
  readonly domain: string;
  readonly unit: number;
  readonly vendor: (typeof vendors)[keyof typeof vendors];
  readonly entries: readonly ReadEntry[];
  /** The frame that a read arrives at, as tables say; null where it does not. */
  readonly frame: number | null;
  readonly permissions: number;
  /** Owner of the frame, as the frame table numbers it. */
  readonly owner: number | null;
  /** Whether no table was needed. */
  readonly passesThrough: boolean;
  /** The vendor's number of what is wrong, 0 for nothing; and for page tables, what. */
  readonly fault: number;
  readonly why: string | null;
  readonly cached: readonly CachedLine[];
}

const vendors = { [UnitKind.VTD]: 'VT-d', [UnitKind.AMD]: 'AMD', [UnitKind.SMMUV3]: 'SMMUv3', [UnitKind.RISCV]: 'RISC-V', [UnitKind.MOCK]: 'the mock' } as const;
const faultNames = Object.fromEntries(Object.entries(WalkFault).map(([name, value]) => [value, name.toLowerCase().replaceAll('_', ' ')]));

/** What a unit's tables make of a read. */
interface Walked {
  readonly frame: number | null;
  readonly permissions: number;
  readonly passesThrough: boolean;
  readonly fault: number;
  readonly why: string | null;
}

/** For a function with a unit before it. `pasid` is -1 for requests without one. */
export function reachOf(view: View, pciFunction: Ref<'PciFunction'>, pasid: number, iovaHigh: number, iovaLow: number): Reach {
  const { host } = view;
  const { kernel, ram } = host;
  const unit = PciFunction.unit.peek(kernel, pciFunction);
  const rid = PciFunction.rid.peek(kernel, pciFunction);
  const kind = IommuUnit.kind.peek(kernel, unit) as UnitKind;
  const log = new ReadLog();
  ram.control = log;
  let walked: Walked;
  try {
    walked = walkers[kind](host, unit, PciFunction.sourceId.peek(kernel, pciFunction), pasid, iovaHigh, iovaLow);
  } finally {
    ram.control = null;
  }
  const { frame } = walked;
  return {
    requesterId: rid,
    group: view.groupOf(rid),
    pasid: pasid < 0 ? null : pasid,
    domain: pasid <= ridPasid ? domainOf(view, view.groupOf(rid)) : domainOfPasid(view, pciFunction, pasid),
    unit: IommuUnit.number.peek(kernel, unit),
    vendor: vendors[kind],
    entries: log.entries,
    ...walked,
    owner: frame === null || frame >= host.frames.count ? null : host.frames.ownerOf(frame as Frame),
    cached: cachedFor(view, pciFunction, pasid, pageNumber(iovaHigh, iovaLow)),
  };
}

/** Whether a unit takes requests with a PASID, as far as it is modelled. */
export const takesPasids = (kind: UnitKind): boolean => kind === UnitKind.VTD || kind === UnitKind.RISCV;

type Walker = (host: Host, unit: Ref<'IommuUnit'>, sourceId: number, pasid: number, iovaHigh: number, iovaLow: number) => Walked;

const walkers: Readonly<Record<UnitKind, Walker>> = {
  [UnitKind.VTD](host, unit, sourceId, pasid, iovaHigh, iovaLow) {
    const requester = noRequester();
    const fault = new VtdRequesters(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'VtdRegisters'>, null).lookup(sourceId, pasid, requester);
    if (fault !== 0) return refused(fault);
    if (requester.passThrough) return passed(iovaHigh, iovaLow);
    if (requester.secondRoot !== 0) return throughBoth(host, requester, sourceId, iovaHigh, iovaLow);
    const levels = requester.levels as 3 | 4 | 5;
    return throughTables(host, requester.firstStage ? vtdFirstStage(levels as 4 | 5) : vtdSecondStage(levels), requester.root, iovaHigh, iovaLow);
  },
  [UnitKind.AMD](host, unit, sourceId, _pasid, iovaHigh, iovaLow) {
    const table = new DeviceTable(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'AmdRegisters'>, null);
    const fault = table.find(sourceId);
    const { passThrough, permissions, root, levels } = table.requester;
    if (fault !== 0 || permissions === 0) return refused(fault);
    return passThrough ? passed(iovaHigh, iovaLow) : throughTables(host, amdV1(levels as 3 | 4 | 5 | 6), root, iovaHigh, iovaLow);
  },
  [UnitKind.SMMUV3](host, unit, sourceId, _pasid, iovaHigh, iovaLow) {
    const streams = new Streams(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'SmmuRegisters'>, null);
    const fault = streams.find(sourceId);
    if (fault !== 0) return refused(fault);
    if (streams.passThrough) return passed(iovaHigh, iovaLow);
    if (streams.stage1 && streams.stage2) return throughBothOfSmmu(streams, sourceId, iovaHigh, iovaLow);
    const format = streams.stage2 ? smmuStage2(streams.secondLevels as 3 | 4) : smmuStage1(streams.levels as 3 | 4);
    return throughTables(host, format, streams.name, iovaHigh, iovaLow);
  },
  /** The half of the page that the address lies in. */
  [UnitKind.MOCK](host, unit, sourceId, _pasid, iovaHigh, iovaLow) {
    const root = PciFunction.mockRoot.peek(host.kernel, mockFunction(host.kernel, unit, sourceId)) as Frame;
    if (root === 0 || isBeyond(iovaHigh)) return refused(0);
    const walked = throughTables(host, mockFormat, root, doubledHigh(iovaHigh, iovaLow), doubledLow(iovaLow));
    return { ...walked, frame: walked.frame === null ? null : Math.floor(walked.frame / 2) };
  },
  [UnitKind.RISCV](host, unit, sourceId, pasid, iovaHigh, iovaLow) {
    const translation = new RiscvTranslation(host, IommuUnit.registers.peek(host.kernel, unit) as Ref<'RiscvRegisters'>);
    const request = new RiscvRequest();
    Object.assign(request, { deviceId: sourceId, iovaHigh, iovaLow, wanted: Access.READ, ...(pasid < 0 ? {} : { processId: pasid }) });
    const fault = translation.translate(request);
    if (fault !== 0) return refused(fault);
    if (translation.passes) return passed(iovaHigh, iovaLow);
    return { frame: translation.frame, permissions: translation.permissions(request), passesThrough: false, fault: 0, why: null };
  },
};

/** VT-d's first stage of a guest on a second one. */
function throughBoth(host: Host, requester: Requester, sourceId: number, iovaHigh: number, iovaLow: number): Walked {
  const walk = new NestedWalk(host, false);
  const tables = new PageWalker(host.ram, vtdSecondStage(requester.secondLevels as 3 | 4 | 5));
  const fault = walk.walk(requester, tables, sourceId, iovaHigh, iovaLow, Access.READ);
  if (fault === 0) return { frame: walk.frame, permissions: walk.permissions, passesThrough: false, fault: 0, why: null };
  if (walk.second.fault === WalkFault.NONE) return { ...refused(fault), why: `in the guest's first stage, whose table is at guest address 0x${(walk.accessed * 4096).toString(16)}` };
  const what = walk.step === WalkStep.PAGE ? 'the page' : "a table of the guest's first stage";
  return { ...refused(fault), why: `${faultNames[walk.second.fault]!} in the second stage, on the way to ${what} at guest address 0x${(walk.accessed * 4096).toString(16)}` };
}

/** The same of SMMUv3. */
function throughBothOfSmmu(streams: Streams, sourceId: number, iovaHigh: number, iovaLow: number): Walked {
  const { walk, second, secondLevels, secondRoot } = streams;
  const fault = walk.onto(second[secondLevels]!, secondRoot, sourceId).walk(smmuStage1(streams.levels as 3 | 4), streams.root, iovaHigh, iovaLow, Access.READ);
  if (fault === WalkFault.NONE) return { frame: walk.frame, permissions: walk.permissions, passesThrough: false, fault: 0, why: null };
  const { stage2, ipaPage, class: ofClass } = walk.refusal;
  const what = ofClass === EventClass.INPUT ? 'the page' : "a table of the guest's stage 1";
  const where = stage2 ? `in stage 2, on the way to ${what} at guest address 0x${(ipaPage * 4096).toString(16)}` : "in the guest's stage 1";
  return { ...refused(eventOf[fault]), why: `${faultNames[fault]!} ${where}` };
}

const refused = (fault: number): Walked => ({ frame: null, permissions: 0, passesThrough: false, fault, why: null });
const passed = (iovaHigh: number, iovaLow: number): Walked =>
  ({ frame: pageNumber(iovaHigh, iovaLow), permissions: Access.READ | Access.WRITE, passesThrough: true, fault: 0, why: null });

function throughTables(host: Host, format: PageTableFormat, root: Frame, iovaHigh: number, iovaLow: number): Walked {
  const result = new WalkResult();
  const fault = new PageWalker(host.ram, format).walk(root, iovaHigh, iovaLow, 0, result);
  if (fault !== WalkFault.NONE) return { ...refused(fault), why: `${faultNames[fault]!} at level ${result.level} of ${format.name}` };
  return { frame: result.frame, permissions: result.permissions, passesThrough: false, fault: 0, why: null };
}

/** The group's domain in its user's words. */
function domainOf(view: View, groupNumber: number): string {
  const memory = view.host.kernel;
  const group = view.groups().find((one) => IommuGroup.number.peek(memory, one) === groupNumber);
  if (group === undefined) return 'no group';
  const domain = IommuGroup.domain.peek(memory, group);
  const hwpt = hwptName(view, domain);
  if (hwpt !== null) return hwpt;
  if (domain === NULL || IommuDomain.kind.peek(memory, domain) === DomainKind.BLOCKED) return 'blocked';
  if (IommuDomain.kind.peek(memory, domain) === DomainKind.IDENTITY) return 'identity';
  return domain === IommuGroup.defaultDomain.peek(memory, group) ? 'its default domain' : 'a domain of the kernel';
}

/** The same of a PASID: a user's attachment, also where the function has no PASIDs and it is a record alone; else what the driver was told by the kernel. */
function domainOfPasid(view: View, pciFunction: Ref<'PciFunction'>, pasid: number): string {
  const memory = view.host.kernel;
  const number = view.groupOf(PciFunction.rid.peek(memory, pciFunction));
  const groups = contexts(view).flatMap((iommufd) => iommufdGroups(view, iommufd));
  const own = groups.filter((group) => IommuGroup.number.peek(memory, IommufdGroup.group.peek(memory, group)) === number);
  const share = own.flatMap((group) => pasidsAttached(view, group)).find((one) => PasidAttachment.pasid.peek(memory, one) === pasid);
  const domain = share === undefined ? domainOfDriver(view, pciFunction, pasid) : Hwpt.domain.peek(memory, PasidAttachment.hwpt.peek(memory, share));
  return domain === NULL ? 'nothing' : (hwptName(view, domain) ?? 'a domain of the kernel');
}

function domainOfDriver(view: View, pciFunction: Ref<'PciFunction'>, pasid: number): Ref<'IommuDomain'> {
  const memory = view.host.kernel;
  if (IommuUnit.kind.peek(memory, PciFunction.unit.peek(memory, pciFunction)) !== UnitKind.VTD) return NULL;
  let at: Ref<'DevicePasid'> = IommuDevice.pasids.peek(memory, PciFunction.driverData.peek(memory, pciFunction) as Ref<'IommuDevice'>);
  while (at !== NULL && DevicePasid.pasid.peek(memory, at) !== pasid) at = DevicePasid.next.peek(memory, at);
  return at === NULL ? NULL : DevicePasid.domain.peek(memory, at);
}

/** The HWPT that has a domain, in its user's words; null where none has. */
function hwptName(view: View, domain: Ref<'IommuDomain'>): string | null {
  const memory = view.host.kernel;
  for (const iommufd of contexts(view)) {
    for (const target of objects(view, iommufd)) {
      const kind = IommufdObject.kind.peek(memory, target);
      if (kind !== Kind.HWPT && kind !== Kind.NESTED_HWPT) continue;
      const hwpt = IommufdObject.body.peek(memory, target) as Ref<'Hwpt'>;
      if (Hwpt.domain.peek(memory, hwpt) !== domain) continue;
      const ioas = IommufdObject.id.peek(memory, Ioas.header.peek(memory, Hwpt.ioas.peek(memory, hwpt)));
      return `HWPT ${IommufdObject.id.peek(memory, target)} of IOAS ${ioas} of process ${Process.number.peek(memory, Iommufd.process.peek(memory, iommufd))}`;
    }
  }
  return null;
}

/** Lines of the page, whoever filled them, and of the requester: where lines are told apart by PASID, those of this one. */
function cachedFor(view: View, pciFunction: Ref<'PciFunction'>, pasid: number, page: number): CachedLine[] {
  const { kernel } = view.host;
  const unit = PciFunction.unit.peek(kernel, pciFunction);
  const sourceId = PciFunction.sourceId.peek(kernel, pciFunction);
  const atc = PciFunction.atc.peek(kernel, pciFunction);
  const isVtd = IommuUnit.kind.peek(kernel, unit) === UnitKind.VTD;
  const tag = Math.max(pasid, ridPasid);
  const ofPasid = taggedLines(kernel, IommuUnit.pasidCache.peek(kernel, unit)).filter(({ owner }) => !isVtd || owner === tag);
  const own = [...taggedLines(kernel, IommuUnit.contextCache.peek(kernel, unit)), ...ofPasid];
  const ofIotlb = iotlbLines(kernel, IommuUnit.iotlb.peek(kernel, unit)).filter((line) => line.page === page % 2 ** 48 && (!isVtd || line.pasid === tag));
  const ofAtc = atc === NULL ? [] : taggedLines(kernel, Atc.lines.peek(kernel, atc)).filter(({ key, owner }) => key === (page | 0) && owner === atcOwnerOf(pasid));
  return [
    ...own.filter(({ key }) => key === sourceId).map(({ tag }): CachedLine => ({ cache: 'entry cache', tag: tag & 0xffff, frame: null, permissions: null })),
    ...ofIotlb.map(({ domainId, frame, permissions }): CachedLine => ({ cache: 'IOTLB', tag: domainId, frame, permissions })),
    ...ofAtc.map(({ value0 }): CachedLine => ({ cache: 'device TLB', tag: 0, frame: value0, permissions: null })),
  ];
}
