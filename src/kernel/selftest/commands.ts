/**
 * IOMMU_TEST_CMD, as a table of its own: what the kernel's selftest does to a /dev/iommu besides its ioctls. Only a host with the mock
 * IOMMU has these.
 */
import type { Ref } from '#hostmem/object';
import { callBegan, callEnded, errnoOf } from '../call-events.ts';
import { fail } from '../errno.ts';
import { File, FileKind, getFile, putFile } from '../file.ts';
import type { Kernel } from '../kernel.ts';
import {
  addReserved, devCheckCache, markDirty, mdCheckIotlb, mdCheckMap, mdCheckRefs,
  type AddReserved, type DevCheckCache, type MarkDirty, type MdCheckIotlb, type MdCheckMap, type MdCheckRefs,
} from './checks.ts';
import {
  accessPages, accessReplaceIoas, accessRw, createTestAccess, destroyAccessPages,
  type AccessPages, type AccessReplaceIoas, type AccessRw, type CreateAccess, type DestroyAccessPages,
} from './test-access.ts';
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
  IOMMU_TEST_TRIGGER_IOPF: TriggerIopf;
  IOMMU_TEST_TRIGGER_VEVENT: TriggerVevent;
}

const handlers: { readonly [N in keyof TestCommands]: (kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: TestCommands[N]) => void } = {
  IOMMU_TEST_ACCESS_PAGES: accessPages,
  IOMMU_TEST_ACCESS_REPLACE_IOAS: accessReplaceIoas,
  IOMMU_TEST_ACCESS_RW: accessRw,
  IOMMU_TEST_ADD_RESERVED: addReserved,
  IOMMU_TEST_CREATE_ACCESS: createTestAccess,
  IOMMU_TEST_DESTROY_ACCESS_PAGES: destroyAccessPages,
  IOMMU_TEST_DEV_CHECK_CACHE: devCheckCache,
  IOMMU_TEST_DIRTY: markDirty,
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
  IOMMU_TEST_TRIGGER_IOPF: triggerIopf,
  IOMMU_TEST_TRIGGER_VEVENT: triggerVevent,
};

/** One test operation on an open /dev/iommu; as `ioctl`. EBADF, ENOTTY. */
export function testIoctl<N extends keyof TestCommands>(kernel: Kernel, fd: number, command: N, arg: TestCommands[N]): void {
  const call = callBegan(kernel, command);
  let errno = 0;
  try {
    testOnFile(kernel, fd, command, arg);
  } catch (error) {
    errno = errnoOf(error);
    throw error;
  } finally {
    callEnded(kernel, call, errno);
  }
}

function testOnFile<N extends keyof TestCommands>(kernel: Kernel, fd: number, command: N, arg: TestCommands[N]): void {
  const file = getFile(kernel, fd);
  try {
    if (File.kind.peek(kernel.memory, file) !== FileKind.IOMMUFD) fail('ENOTTY', `descriptor ${fd} is no iommufd`);
    handlers[command](kernel, File.body.peek(kernel.memory, file) as Ref<'Iommufd'>, arg);
  } finally {
    kernel.putHeld();
    putFile(kernel, file);
  }
}
