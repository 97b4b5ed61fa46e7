/** IOMMU_OPTION (`iommufd_option`): who pays for pinned pages, and whether an IOAS may use large pages. */
import type { Ref } from '#hostmem/object';
import { Capability, capable } from './accounting.ts';
import { respond } from './argument.ts';
import { fail } from './errno.ts';
import { getIoas, Ioas } from './ioas.ts';
import { disableLargePages, enableLargePages } from './iopt-alignment.ts';
import type { Kernel } from './kernel.ts';
import { Iommufd } from './objects.ts';

export interface Option { optionId: number; op: number; reserved?: number; objectId: number; val64: bigint }

const Id = { RLIMIT_MODE: 0, HUGE_PAGES: 1 } as const;
const Op = { SET: 0, GET: 1 } as const;

/** EOPNOTSUPP, EPERM, EBUSY, EINVAL, ENOENT, EADDRINUSE; EFAULT where the value cannot be written, also behind a SET, which is in force then. */
export function option(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: Option): void {
  if ((arg.reserved ?? 0) !== 0) fail('EOPNOTSUPP', 'the reserved field is not 0');
  const value = valueOf(kernel, iommufd, arg);
  respond(kernel, arg);
  arg.val64 = value;
}

function valueOf(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: Option): bigint {
  if (arg.optionId === Id.RLIMIT_MODE) return rlimitMode(kernel, iommufd, arg);
  if (arg.optionId === Id.HUGE_PAGES) return hugePages(kernel, getIoas(kernel, iommufd, arg.objectId), arg);
  return fail('EOPNOTSUPP', `unknown option ${arg.optionId}`);
}

/** `iommufd_option_rlimit_mode`: the mode can change only while no id of the context is taken. */
function rlimitMode(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: Option): bigint {
  const memory = kernel.memory;
  if (arg.objectId !== 0) fail('EOPNOTSUPP', 'the mode is the context\'s, not an object\'s');
  if (arg.op === Op.GET) return BigInt(Iommufd.accountMode.load(memory, iommufd));
  if (arg.op !== Op.SET) fail('EOPNOTSUPP', `unknown operation ${arg.op}`);
  if (!capable(kernel, Capability.SYS_RESOURCE)) fail('EPERM', 'CAP_SYS_RESOURCE is needed');
  Iommufd.objects.acquire(memory, iommufd);
  const isEmpty = Iommufd.objects.isEmptyLocked(memory, iommufd);
  if (isEmpty && arg.val64 <= 1n) Iommufd.accountMode.poke(memory, iommufd, Number(arg.val64));
  Iommufd.objects.release(memory, iommufd);
  if (!isEmpty) fail('EBUSY', 'the context has objects, or ids of some that were buried');
  if (arg.val64 > 1n) fail('EINVAL', 'the mode is 0 or 1');
  return arg.val64;
}

/** `iommufd_ioas_option_huge_pages`. */
function hugePages(kernel: Kernel, ioas: Ref<'Ioas'>, arg: Option): bigint {
  if (arg.op === Op.GET) return Ioas.largePagesDisabled.peek(kernel.memory, ioas) === 0 ? 1n : 0n;
  if (arg.op !== Op.SET) fail('EOPNOTSUPP', `unknown operation ${arg.op}`);
  if (arg.val64 > 1n) fail('EINVAL', 'the value is 0 or 1');
  if (arg.val64 === 0n) disableLargePages(kernel, ioas);
  else enableLargePages(kernel, ioas);
  return arg.val64;
}
