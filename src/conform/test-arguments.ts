/** Arguments of the selftest's own operations between a recording's field names and the model's: one entry an operation. */
import type { TestCommands } from '../kernel/selftest/commands.ts';
import { descriptor } from './ioctl-arguments.ts';
import { bytesOf } from './trace-bytes.ts';
import type { TraceFields, TraceValue } from './trace-file.ts';

export interface TestCall<N extends keyof TestCommands> {
  /** `fdOf` gives the model's descriptor of a logical name. */
  read(input: TraceFields, fdOf: (name: string | undefined) => number): TestCommands[N];
  /** What the kernel may have written. */
  write(arg: TestCommands[N]): Readonly<Record<string, unknown>>;
}

const number = (value: TraceValue | undefined): number => Number(value ?? 0);
const big = (value: TraceValue | undefined): bigint => BigInt((value ?? 0) as bigint | number);
const nothing = (): Readonly<Record<string, unknown>> => ({});

/** `id` of an operation on an access is a descriptor. */
function accessFd(input: TraceFields, fdOf: (name: string | undefined) => number): number {
  const name = input['id_name'];
  return typeof name === 'string' ? fdOf(name) : -1;
}

const pasidAttach = {
  read: (input: TraceFields) => ({ id: number(input['id']), pasid: number(input['pasid']), ptId: number(input['pt_id']) }),
  write: ({ ptId }: { ptId: number }) => ({ pt_id: ptId }),
};

const mockDomain = {
  read: (input: TraceFields) => ({
    id: number(input['id']), deviceFlags: number(input['dev_flags']), outStdevId: number(input['out_stdev_id']), outHwptId: number(input['out_hwpt_id']),
    outIdevId: number(input['out_idev_id']),
  }),
  write: ({ outStdevId, outHwptId, outIdevId }: TestCommands['IOMMU_TEST_MOCK_DOMAIN']) => ({
    out_stdev_id: outStdevId, out_hwpt_id: outHwptId, out_idev_id: outIdevId,
  }),
};

export const testArguments: { readonly [N in keyof TestCommands]: TestCall<N> } = {
  IOMMU_TEST_ACCESS_PAGES: {
    read: (input, fdOf) => ({
      fd: accessFd(input, fdOf), flags: number(input['flags']), iova: big(input['iova']), length: big(input['length']), userVa: big(input['uptr']),
      outAccessPagesId: number(input['out_access_pages_id']),
    }),
    write: ({ outAccessPagesId }) => ({ out_access_pages_id: outAccessPagesId }),
  },
  IOMMU_TEST_ACCESS_REPLACE_IOAS: {
    read: (input, fdOf) => ({ fd: accessFd(input, fdOf), ioasId: number(input['ioas_id']) }),
    write: nothing,
  },
  IOMMU_TEST_ACCESS_RW: {
    read: (input, fdOf) => ({
      fd: accessFd(input, fdOf), flags: number(input['flags']), iova: big(input['iova']), length: big(input['length']),
      buffer: bytesOf(input['data']) ?? new Uint8Array(0),
    }),
    write: nothing,
  },
  IOMMU_TEST_ADD_RESERVED: {
    read: (input) => ({ id: number(input['id']), start: big(input['start']), length: big(input['length']) }),
    write: nothing,
  },
  IOMMU_TEST_CREATE_ACCESS: {
    read: (input) => ({ id: number(input['id']), flags: number(input['flags']), outAccessFd: number(input['out_access_fd']) }),
    write: ({ outAccessFd }) => ({ out_access_fd: outAccessFd }),
  },
  IOMMU_TEST_DESTROY_ACCESS_PAGES: {
    read: (input, fdOf) => ({ fd: accessFd(input, fdOf), accessPagesId: number(input['access_pages_id']) }),
    write: nothing,
  },
  IOMMU_TEST_DEV_CHECK_CACHE: {
    read: (input) => ({ id: number(input['id']), cacheId: number(input['cache_id']), cache: number(input['cache']) }),
    write: nothing,
  },
  IOMMU_TEST_DIRTY: {
    read: (input) => ({
      id: number(input['id']), iova: big(input['iova']), length: big(input['length']), pageSize: big(input['page_size']),
      bitmap: input['uptr_at'] === null ? null : bytesOf(input['bitmap']) ?? new Uint8Array(0), outNrDirty: number(input['out_nr_dirty']),
    }),
    write: ({ outNrDirty }) => ({ out_nr_dirty: outNrDirty }),
  },
  // The descriptor is what the call returns.
  IOMMU_TEST_DMABUF_GET: { read: (input) => ({ length: number(input['length']) }), write: nothing },
  IOMMU_TEST_DMABUF_REVOKE: {
    read: (input, fdOf) => ({ fd: descriptor(input, 'dmabuf_fd', fdOf), revoked: number(input['revoked']) !== 0 }),
    write: nothing,
  },
  IOMMU_TEST_MD_CHECK_IOTLB: {
    read: (input) => ({ id: number(input['id']), iotlbId: number(input['iotlb_id']), iotlb: number(input['iotlb']) }),
    write: nothing,
  },
  IOMMU_TEST_MD_CHECK_MAP: {
    read: (input) => ({ id: number(input['id']), iova: big(input['iova']), length: big(input['length']), userVa: big(input['uptr']) }),
    write: nothing,
  },
  IOMMU_TEST_MD_CHECK_REFS: {
    read: (input) => ({ length: big(input['length']), userVa: big(input['uptr']), refs: number(input['refs']) }),
    write: nothing,
  },
  IOMMU_TEST_MOCK_DOMAIN: mockDomain,
  IOMMU_TEST_MOCK_DOMAIN_FLAGS: mockDomain,
  IOMMU_TEST_MOCK_DOMAIN_REPLACE: {
    read: (input) => ({ id: number(input['id']), ptId: number(input['pt_id']) }),
    write: ({ ptId }) => ({ pt_id: ptId }),
  },
  IOMMU_TEST_PASID_ATTACH: pasidAttach,
  IOMMU_TEST_PASID_CHECK_HWPT: {
    read: (input) => ({ id: number(input['id']), pasid: number(input['pasid']), hwptId: number(input['hwpt_id']) }),
    write: nothing,
  },
  IOMMU_TEST_PASID_DETACH: { read: (input) => ({ id: number(input['id']), pasid: number(input['pasid']) }), write: nothing },
  IOMMU_TEST_PASID_REPLACE: pasidAttach,
  IOMMU_TEST_SET_TEMP_MEMORY_LIMIT: { read: (input) => ({ limit: number(input['limit']) }), write: nothing },
  IOMMU_TEST_TRIGGER_IOPF: {
    read: (input) => ({
      deviceId: number(input['dev_id']), pasid: number(input['pasid']), group: number(input['grpid']), permissions: number(input['perm']),
      address: big(input['addr']),
    }),
    write: nothing,
  },
  IOMMU_TEST_TRIGGER_VEVENT: { read: (input) => ({ deviceId: number(input['dev_id']) }), write: nothing },
};
