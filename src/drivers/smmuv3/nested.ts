/**
 * Nested domains of SMMUv3 (drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3-iommufd.c): the first two quadwords of a stream-table entry as a guest has written
 * it, on the stage 2 of its vIOMMU. They say whether the device goes through the guest's stage 1 and that stage 2, through stage 2 alone, or nowhere.
 *
 * The guest's context descriptor, its tables, and the invalidations after it has changed either are the guest's.
 */
import type { Frame, Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { object, ref, u32 } from '#hostmem/struct';
import { nestedName } from '../../hardware/nested-line.ts';
import { abortEntry, Config, configOf, descriptorAt, nestedEntry, stage2Entry, valid, type StreamEntry } from '../../hardware/smmuv3/stream-table.ts';
import { allocated, fail } from '../../kernel/errno.ts';
import { DomainKind, DriverKind, IommuDomain } from '../domain.ts';
import type { UserData } from '../driver.ts';
import { copyStruct } from '../user-data.ts';
import { SmmuViommu } from './viommu.ts';

/** IOMMU_HWPT_DATA_ARM_SMMUV3 and its `{ ste[2] }`. */
export const steData = 2;
export const steBytes = 16;
/** What a guest may say: V, Cfg, S1Fmt, S1ContextPtr, S1CDMax; S1DSS, S1CIR, S1COR, S1CSH, S1STALLD, EATS. */
const allowedWord0 = 0xf80f_ffff_ffff_ffffn;
const allowedWord1 = 0x3800_00ffn;
/** EATS, which the host decides of its own entry; translation requests are refused, or answered with both stages. */
const eatsShift = 28n;
const eatsMask = 3n;
const Eats = { REFUSE: 0n, FULL: 1n } as const;

/** The entry as the guest said it, without EATS: low words, and whether the upper word of the first quadword had anything in it. */
export const SmmuNested = object('SmmuNested', { viommu: ref('SmmuViommu'), word0: u32, word1: u32, hasUpper: u32 });

export const isNested = (memory: Memory, domain: Ref<'IommuDomain'>): boolean => IommuDomain.kind.peek(memory, domain) === DomainKind.NESTED;
const nestedOf = (memory: Memory, domain: Ref<'IommuDomain'>): Ref<'SmmuNested'> => IommuDomain.driverData.peek(memory, domain) as Ref<'SmmuNested'>;
export const viommuOf = (memory: Memory, domain: Ref<'IommuDomain'>): Ref<'SmmuViommu'> => SmmuNested.viommu.peek(memory, nestedOf(memory, domain));

/**
 * `arm_vsmmu_alloc_domain_nested`: EOPNOTSUPP for any flag, EINVAL for another type or length, EFAULT, EIO for an entry that is none
 * or says what it must not (`arm_smmu_validate_vste`), ENOMEM.
 */
export function createNested(memory: Memory, viommu: Ref<'SmmuViommu'>, flags: number, given: UserData): Ref<'IommuDomain'> {
  if (flags !== 0) fail('EOPNOTSUPP', `flags 0x${flags.toString(16)} of a nested domain`);
  if (given.type !== steData) fail('EINVAL', `data of type ${given.type} are no stream-table entry`);
  const data = new DataView(copyStruct(given, steBytes, steBytes).buffer);
  const [word0, word1] = checkedEntry(data.getBigUint64(0, true), data.getBigUint64(8, true));
  const domain = allocated(IommuDomain.tryCreate(memory));
  const nested = SmmuNested.tryCreate(memory);
  if (nested === NULL) IommuDomain.free(memory, domain);
  SmmuNested.viommu.poke(memory, allocated(nested), viommu);
  SmmuNested.word0.poke(memory, nested, Number(BigInt.asIntN(32, word0)));
  SmmuNested.word1.poke(memory, nested, Number(BigInt.asIntN(32, word1)));
  SmmuNested.hasUpper.poke(memory, nested, word0 >> 32n === 0n ? 0 : 1);
  IommuDomain.kind.poke(memory, domain, DomainKind.NESTED);
  IommuDomain.driver.poke(memory, domain, DriverKind.SMMUV3);
  IommuDomain.parent.poke(memory, domain, SmmuViommu.parent.peek(memory, viommu));
  IommuDomain.driverData.poke(memory, domain, nested);
  IommuDomain.root.poke(memory, domain, rootOf(memory, domain));
  return domain;
}

/** An entry that is not valid says nothing else, whatever its other bits. EIO. */
function checkedEntry(word0: bigint, word1: bigint): readonly [bigint, bigint] {
  if ((word0 & BigInt(valid)) === 0n) return [0n, 0n];
  if ((word0 & ~allowedWord0) !== 0n || (word1 & ~allowedWord1) !== 0n) fail('EIO', 'the entry says what is not for a guest to say');
  const config = configOf(Number(BigInt.asIntN(32, word0)));
  if (config !== Config.ABORT && config !== Config.BYPASS && config !== Config.STAGE1) fail('EIO', `Cfg ${config} of an entry of a guest`);
  const eats = (word1 >> eatsShift) & eatsMask;
  if (eats !== Eats.REFUSE && eats !== Eats.FULL) fail('EIO', `EATS ${eats}`);
  return [word0, word1 & ~(eatsMask << eatsShift)];
}

export function freeNested(memory: Memory, domain: Ref<'IommuDomain'>): void {
  SmmuNested.free(memory, nestedOf(memory, domain));
  IommuDomain.free(memory, domain);
}

/** What the guest's entry asks for: a `Config`. */
export const guestConfig = (memory: Memory, domain: Ref<'IommuDomain'>): number => configOf(SmmuNested.word0.peek(memory, nestedOf(memory, domain)));

/** Whether a descriptor beyond 4 GiB, or more than one, is asked for: entries of this model have no upper words. */
export const isBeyond = (memory: Memory, domain: Ref<'IommuDomain'>): boolean => SmmuNested.hasUpper.peek(memory, nestedOf(memory, domain)) !== 0;

/** By what reports name what it translates through: the place of the descriptor and the stage 2, the stage 2 alone, or 0. */
function rootOf(memory: Memory, domain: Ref<'IommuDomain'>): Frame {
  const second = IommuDomain.root.peek(memory, IommuDomain.parent.peek(memory, domain));
  const config = guestConfig(memory, domain);
  if (config === Config.ABORT) return 0 as Frame;
  return config === Config.BYPASS ? second : nestedName(Math.floor(descriptorAt(SmmuNested.word0.peek(memory, nestedOf(memory, domain))) / 4096), second);
}

/** `arm_smmu_make_nested_domain_ste`. */
export function entryOf(memory: Memory, domain: Ref<'IommuDomain'>): StreamEntry {
  const parent = IommuDomain.parent.peek(memory, domain);
  const [vmid, root] = [IommuDomain.driverData.peek(memory, parent), IommuDomain.root.peek(memory, parent)];
  const config = guestConfig(memory, domain);
  if (config === Config.ABORT) return abortEntry;
  if (config === Config.BYPASS) return stage2Entry(vmid, root);
  const nested = nestedOf(memory, domain);
  return nestedEntry(SmmuNested.word0.peek(memory, nested), SmmuNested.word1.peek(memory, nested), vmid, root);
}

/** What a VMM hands over of a valid entry of its guest that goes through the descriptor at an address below 4 GiB. */
export function steOf(descriptorGpa: number, config: number = Config.STAGE1): Uint8Array {
  const data = new Uint8Array(steBytes);
  new DataView(data.buffer).setUint32(0, descriptorGpa | valid | (config << 1), true);
  return data;
}
