/**
 * Nested domains of VT-d (drivers/iommu/intel/nested.c): a guest's first stage, in its own memory, on a second stage that was made for it.
 *
 * The driver keeps what the user said of the first stage, and looks at it when a device is attached; the tables themselves are the guest's, and
 * so are the invalidations after it has changed them. Attaching is as with other domains (`attach.ts`, `device-pasid.ts`).
 */
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import { frameOf, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, u32, u64 } from '#hostmem/struct';
import { highOfPage, lowOfPage } from '#hostmem/u64';
import { nestedName } from '../../hardware/nested-line.ts';
import * as registers from '../../hardware/vtd/registers.ts';
import * as entry from '../../hardware/vtd/scalable-entry.ts';
import { allocated, fail, type ErrnoName } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import { DomainFlags, formatId, type Invalidations, type UserData } from '../driver.ts';
import type { EntryValue } from '../entry-stages.ts';
import { copyStruct } from '../user-data.ts';
import type { Vtd, VtdUnit } from './vtd.ts';

/** IOMMU_HWPT_DATA_VTD_S1 and its `{ flags, pgtbl_addr, addr_width, reserved }`. */
export const vtdS1Data = 1;
export const vtdS1Bytes = 24;
/** IOMMU_VTD_S1_SRE, _EAFE, _WPE. */
const S1Flag = { SUPERVISOR: 1, EXTENDED_ACCESSED: 2, WRITE_PROTECT: 4 } as const;
const knownFlags = BigInt(S1Flag.SUPERVISOR | S1Flag.EXTENDED_ACCESSED | S1Flag.WRITE_PROTECT);
/** `addr_width` of 4 levels and of 5, with a sign. */
const AddressWidth = { FOUR_LEVELS: 48, FIVE_LEVELS: 57 } as const;

/** What a VMM hands over for a first stage of four levels. */
export function firstStageData(rootGpa: number): Uint8Array {
  const data = new Uint8Array(vtdS1Bytes);
  new DataView(data.buffer).setBigUint64(8, BigInt(rootGpa), true);
  new DataView(data.buffer).setUint32(16, AddressWidth.FOUR_LEVELS, true);
  return data;
}

/** IOMMU_HWPT_INVALIDATE_DATA_VTD_S1 and its `{ addr, npages, flags, reserved }`. */
export const vtdS1InvalidateData = 0;
export const vtdS1InvalidateBytes = 24;
const LEAF = 1;
const everyPage = 2n ** 64n - 1n;
const allPages = 2 ** 52;

/** What the user said of the first stage; constant while the domain lives. */
export const VtdNested = object('VtdNested', { flags: u32, pageTable: u64, addressWidth: u32 });

/** ECAP.NEST, in scalable mode (`nested_supported`). */
export const nests = (unit: VtdUnit): boolean => unit.scalable && registers.supportsNesting(unit.extendedLow);

export const isNested = (memory: Memory, domain: Ref<'IommuDomain'>): boolean => IommuDomain.kind.peek(memory, domain) === DomainKind.NESTED;

/** `intel_iommu_domain_alloc_nested`. EOPNOTSUPP for a unit, flags or a type of data that it is not for, EINVAL for the parent or the length, EFAULT, ENOMEM. */
export function createNested(memory: Memory, unit: VtdUnit, parent: Ref<'IommuDomain'>, flags: number, given: UserData): Ref<'IommuDomain'> {
  if (!nests(unit) || (flags & ~DomainFlags.PASID) !== 0) fail('EOPNOTSUPP', 'the VT-d unit nests nothing, or flags that nobody knows');
  if (given.type !== vtdS1Data) fail('EOPNOTSUPP', `VT-d has no first stage of type ${given.type}`);
  if (IommuDomain.nestParent.peek(memory, parent) === 0) fail('EINVAL', 'the parent is no second stage for others');
  const data = new DataView(copyStruct(given, vtdS1Bytes, vtdS1Bytes).buffer);
  if ((data.getBigUint64(0, true) & ~knownFlags) !== 0n || data.getUint32(20, true) !== 0) fail('EOPNOTSUPP', 'unknown flags, or a reserved field');
  const domain = allocated(IommuDomain.tryCreate(memory));
  const nested = VtdNested.tryCreate(memory);
  if (nested === NULL) IommuDomain.free(memory, domain);
  VtdNested.flags.poke(memory, allocated(nested), Number(data.getBigUint64(0, true)));
  VtdNested.pageTable.pokeBig(memory, nested, data.getBigUint64(8, true));
  VtdNested.addressWidth.poke(memory, nested, data.getUint32(16, true));
  const levels = levelsOf(memory, nested);
  IommuDomain.kind.poke(memory, domain, DomainKind.NESTED);
  IommuDomain.driver.poke(memory, domain, DriverKind.VTD);
  IommuDomain.format.poke(memory, domain, formatId(vtdFirstStage(levels)));
  IommuDomain.levels.poke(memory, domain, levels);
  IommuDomain.root.poke(memory, domain, nestedName(VtdNested.pageTable.peek(memory, nested) >>> 12, IommuDomain.root.peek(memory, parent)));
  IommuDomain.parent.poke(memory, domain, parent);
  IommuDomain.driverData.poke(memory, domain, nested);
  return domain;
}

export function freeNested(memory: Memory, domain: Ref<'IommuDomain'>): void {
  VtdNested.free(memory, nestedOf(memory, domain));
  IommuDomain.free(memory, domain);
}

const nestedOf = (memory: Memory, domain: Ref<'IommuDomain'>): Ref<'VtdNested'> => IommuDomain.driverData.peek(memory, domain) as Ref<'VtdNested'>;

const levelsOf = (memory: Memory, nested: Ref<'VtdNested'>): 4 | 5 => (VtdNested.addressWidth.peek(memory, nested) === AddressWidth.FIVE_LEVELS ? 5 : 4);

/**
 * Whether the unit has the first stage that the user described: its levels, and what its flags ask for. A root beyond 4 GiB is none either: entries
 * of this model's tables have no high words.
 */
export function suits(memory: Memory, unit: VtdUnit, domain: Ref<'IommuDomain'>): boolean {
  const nested = nestedOf(memory, domain);
  const width = VtdNested.addressWidth.peek(memory, nested);
  const flags = VtdNested.flags.peek(memory, nested);
  if (width !== AddressWidth.FOUR_LEVELS && (width !== AddressWidth.FIVE_LEVELS || !registers.supportsFirstStage5(unit.capabilityHigh))) return false;
  if ((flags & S1Flag.SUPERVISOR) !== 0 && !registers.supportsSupervisor(unit.extendedLow)) return false;
  if ((flags & S1Flag.EXTENDED_ACCESSED) !== 0 && !registers.supportsExtendedAccessed(unit.extendedHigh)) return false;
  return VtdNested.pageTable.peekHigh(memory, nested) === 0;
}

/** `pasid_pte_config_nestd`. */
export function nestedEntry(memory: Memory, domain: Ref<'IommuDomain'>, domainId: number): EntryValue {
  const nested = nestedOf(memory, domain);
  const parent = IommuDomain.parent.peek(memory, domain);
  const word0 = entry.nestedWord0(IommuDomain.root.peek(memory, parent), IommuDomain.levels.peek(memory, parent));
  const flags = VtdNested.flags.peek(memory, nested);
  const supervisor = (flags & S1Flag.SUPERVISOR) !== 0;
  const bits =
    (supervisor ? entry.supervisorRequests : 0) |
    (supervisor && (flags & S1Flag.WRITE_PROTECT) !== 0 ? entry.writeProtect : 0) |
    ((flags & S1Flag.EXTENDED_ACCESSED) !== 0 ? entry.extendedAccessed : 0);
  return [word0, domainId, entry.firstStageWord2(frameOf(VtdNested.pageTable.peek(memory, nested)), levelsOf(memory, nested)) | bits];
}

/** `intel_nested_cache_invalidate_user`: IOTLB, then device TLBs, of all that have the domain. EINVAL, EFAULT, EOPNOTSUPP; those before were carried out. */
export function invalidateNested(vtd: Vtd, domain: Ref<'IommuDomain'>, asked: Invalidations): 0 | ErrnoName {
  if (asked.type !== vtdS1InvalidateData) return 'EINVAL';
  const data = new DataView(asked.bytes.buffer, asked.bytes.byteOffset, asked.bytes.byteLength);
  for (; asked.handled < asked.count; asked.handled++) {
    if (asked.entryBytes !== vtdS1InvalidateBytes) return 'EINVAL';
    const at = asked.handled * vtdS1InvalidateBytes;
    if (at + vtdS1InvalidateBytes > asked.bytes.length) return 'EFAULT';
    const flags = data.getUint32(at + 16, true);
    if ((flags & ~LEAF) !== 0 || data.getUint32(at + 20, true) !== 0) return 'EOPNOTSUPP';
    const address = data.getBigUint64(at, true);
    const pages = data.getBigUint64(at + 8, true);
    if (address % 4096n !== 0n || (pages === everyPage && address !== 0n)) return 'EINVAL';
    const first = Number(address / 4096n);
    const count = pages > BigInt(allPages) ? allPages : Math.max(1, Number(pages));
    vtd.operations.flushRange(vtd, domain, highOfPage(first), lowOfPage(first), count, flags === LEAF);
  }
  return 0;
}
