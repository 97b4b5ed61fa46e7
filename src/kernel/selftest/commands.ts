/**
 * IOMMU_TEST_CMD, as a table of its own: what the kernel's selftest does to a /dev/iommu besides its ioctls. Only a host with the mock
 * IOMMU has these.
 */
import type { Ref } from '#hostmem/object';
import { checkSize, type Sized } from '../argument.ts';
import { callBegan, callEnded, thrownErrno } from '../call-events.ts';
import { fail } from '../errno.ts';
import { getFile, putFile } from '../file.ts';
import { File, FileKind } from '../open-file.ts';
import type { Kernel } from '../kernel.ts';
import {
  addReserved, devCheckCache, markDirty, mdCheckIotlb, mdCheckMap, mdCheckRefs, setTempMemoryLimit,
  type AddReserved, type DevCheckCache, type MarkDirty, type MdCheckIotlb, type MdCheckMap, type MdCheckRefs, type SetTempMemoryLimit,
} from './checks.ts';
import {
  accessPages, accessReplaceIoas, accessRw, createTestAccess, destroyAccessPages,
  type AccessPages, type AccessReplaceIoas, type AccessRw, type CreateAccess, type DestroyAccessPages,
} from './test-access.ts';
import { dmabufGet, dmabufRevoke, type DmabufGet, type DmabufRevoke } from './test-dmabuf.ts';
import {
  mockDomain, mockDomainReplace, pasidAttach, pasidCheckHwpt, pasidDetach, pasidReplace,
  type MockDomain, type MockDomainReplace, type PasidAttach, type PasidCheckHwpt, type PasidDetach,
} from './test-device.ts';
import { triggerIopf, triggerVevent, type TriggerIopf, type TriggerVevent } from './triggers.ts';

export interface TestCommands {
  IOMMU_TEST_ACCESS_PAGES: AccessPages;
  IOMMU_TEST_ACCESS_REPLACE_IOAS: AccessReplaceIoas;
  IOMMU_TEST_ACCESS_RW: AccessRw;
  IOMMU_TEST_ADD_RESERVED: AddReserved;
  IOMMU_TEST_CREATE_ACCESS: CreateAccess;
  IOMMU_TEST_DESTROY_ACCESS_PAGES: DestroyAccessPages;
  IOMMU_TEST_DEV_CHECK_CACHE: DevCheckCache;
  IOMMU_TEST_DIRTY: MarkDirty;
  IOMMU_TEST_DMABUF_GET: DmabufGet;
  IOMMU_TEST_DMABUF_REVOKE: DmabufRevoke;
  IOMMU_TEST_MD_CHECK_IOTLB: MdCheckIotlb;
  IOMMU_TEST_MD_CHECK_MAP: MdCheckMap;
  IOMMU_TEST_MD_CHECK_REFS: MdCheckRefs;
  IOMMU_TEST_MOCK_DOMAIN: MockDomain;
  IOMMU_TEST_MOCK_DOMAIN_FLAGS: MockDomain;
  IOMMU_TEST_MOCK_DOMAIN_REPLACE: MockDomainReplace;
  IOMMU_TEST_PASID_ATTACH: PasidAttach;
  IOMMU_TEST_PASID_CHECK_HWPT: PasidCheckHwpt;
  IOMMU_TEST_PASID_DETACH: PasidDetach;
  IOMMU_TEST_PASID_REPLACE: PasidAttach;
  IOMMU_TEST_SET_TEMP_MEMORY_LIMIT: SetTempMemoryLimit;
  IOMMU_TEST_TRIGGER_IOPF: TriggerIopf;
  IOMMU_TEST_TRIGGER_VEVENT: TriggerVevent;
}

const handlers: { readonly [N in keyof TestCommands]: (kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: TestCommands[N]) => number | void } = {
  IOMMU_TEST_ACCESS_PAGES: accessPages,
  IOMMU_TEST_ACCESS_REPLACE_IOAS: accessReplaceIoas,
  IOMMU_TEST_ACCESS_RW: accessRw,
  IOMMU_TEST_ADD_RESERVED: addReserved,
  IOMMU_TEST_CREATE_ACCESS: createTestAccess,
  IOMMU_TEST_DESTROY_ACCESS_PAGES: destroyAccessPages,
  IOMMU_TEST_DEV_CHECK_CACHE: devCheckCache,
  IOMMU_TEST_DIRTY: markDirty,
  IOMMU_TEST_DMABUF_GET: dmabufGet,
  IOMMU_TEST_DMABUF_REVOKE: dmabufRevoke,
  IOMMU_TEST_MD_CHECK_IOTLB: mdCheckIotlb,
  IOMMU_TEST_MD_CHECK_MAP: mdCheckMap,
  IOMMU_TEST_MD_CHECK_REFS: mdCheckRefs,
  IOMMU_TEST_MOCK_DOMAIN: mockDomain,
  IOMMU_TEST_MOCK_DOMAIN_FLAGS: mockDomain,
  IOMMU_TEST_MOCK_DOMAIN_REPLACE: mockDomainReplace,
  IOMMU_TEST_PASID_ATTACH: pasidAttach,
  IOMMU_TEST_PASID_CHECK_HWPT: pasidCheckHwpt,
  IOMMU_TEST_PASID_DETACH: pasidDetach,
  IOMMU_TEST_PASID_REPLACE: pasidReplace,
  IOMMU_TEST_SET_TEMP_MEMORY_LIMIT: setTempMemoryLimit,
  IOMMU_TEST_TRIGGER_IOPF: triggerIopf,
  IOMMU_TEST_TRIGGER_VEVENT: triggerVevent,
};

/** Where `struct iommu_test_cmd` has its last field, and how long it is, in bytes. */
const smallestBytes = 68;
const knownBytes = 72;

/** One test operation on an open /dev/iommu; as `ioctl`. EBADF, ENOTTY, what a struct of any command can end in, EOPNOTSUPP for an unknown operation. */
export function testIoctl<N extends keyof TestCommands>(kernel: Kernel, fd: number, command: N, arg: TestCommands[N] & Sized): number {
  const call = callBegan(kernel, command);
  let errno = 0;
  try {
    return testOnFile(kernel, fd, command, arg);
  } catch (error) {
    errno = thrownErrno(error);
    throw error;
  } finally {
    callEnded(kernel, call, errno);
  }
}

function testOnFile<N extends keyof TestCommands>(kernel: Kernel, fd: number, command: N, arg: TestCommands[N] & Sized): number {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.IOMMUFD) fail('ENOTTY', `descriptor ${fd} is no iommufd`);
    checkSize(arg, smallestBytes, knownBytes);
    const handler: (typeof handlers)[N] | undefined = handlers[command];
    if (handler === undefined) fail('EOPNOTSUPP', `there is no ${command}`);
    return handler(kernel, File.body.peek(kernel.memory, file) as Ref<'Iommufd'>, arg) ?? 0;
  } finally {
    kernel.putHeld();
    putFile(kernel, file);
  }
}
