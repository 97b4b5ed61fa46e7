/** Arguments of ioctls between a recording's field names and the model's: one entry a command. */
import type { Commands } from '../kernel/syscalls.ts';
import type { TraceFields, TraceValue } from './trace-file.ts';

export interface Call<N extends keyof Commands> {
  /** `fdOf` gives the model's descriptor of a logical name. */
  read(input: TraceFields, fdOf: (name: string | undefined) => number): Commands[N];
  /** What the kernel may have written. */
  write(arg: Commands[N]): Readonly<Record<string, unknown>>;
}

const number = (value: TraceValue | undefined): number => Number(value ?? 0);
const big = (value: TraceValue | undefined): bigint => BigInt((value ?? 0) as bigint | number);
const rangesOf = (value: TraceValue | undefined): [bigint, bigint][] =>
  ((value ?? []) as readonly (readonly [bigint, bigint])[]).map(([start, last]) => [big(start), big(last)]);

/** The descriptor that a field holds: the model's for the logical name beside it, or the number itself (-1, a closed one). */
function descriptor(input: TraceFields, field: string, fdOf: (name: string | undefined) => number): number {
  const name = input[`${field}_name`];
  return typeof name === 'string' ? fdOf(name) : Math.min(number(input[field]), 1 << 20);
}

export const arguments_: { readonly [N in keyof Commands]: Call<N> } = {
  IOMMU_DESTROY: { read: (input) => ({ id: number(input['id']) }), write: () => ({}) },
  IOMMU_IOAS_ALLOC: {
    read: (input) => ({ flags: number(input['flags']), outIoasId: 0 }),
    write: ({ outIoasId }) => ({ out_ioas_id: outIoasId }),
  },
  IOMMU_IOAS_ALLOW_IOVAS: {
    read: (input) => ({ ioasId: number(input['ioas_id']), reserved: number(input['__reserved']), ranges: rangesOf(input['ranges']) }),
    write: () => ({}),
  },
  IOMMU_IOAS_IOVA_RANGES: {
    read: (input) => ({
      ioasId: number(input['ioas_id']), reserved: number(input['__reserved']), numIovas: number(input['num_iovas']), ranges: [], outIovaAlignment: 0n,
    }),
    write: ({ numIovas, outIovaAlignment, ranges }) => ({ num_iovas: numIovas, out_iova_alignment: outIovaAlignment, ranges }),
  },
  IOMMU_IOAS_MAP: {
    read: (input) => ({
      flags: number(input['flags']), reserved: number(input['__reserved']), ioasId: number(input['ioas_id']), userVa: big(input['user_va']),
      length: big(input['length']), iova: big(input['iova']),
    }),
    write: ({ iova }) => ({ iova }),
  },
  IOMMU_IOAS_UNMAP: {
    read: (input) => ({ ioasId: number(input['ioas_id']), iova: big(input['iova']), length: big(input['length']) }),
    write: ({ length }) => ({ length }),
  },
  VFIO_DEVICE_BIND_IOMMUFD: {
    read: (input, fdOf) => ({
      argsz: number(input['argsz']), flags: number(input['flags']), iommufd: descriptor(input, 'iommufd', fdOf), outDevid: 0,
    }),
    write: ({ outDevid }) => ({ out_devid: outDevid }),
  },
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: {
    read: (input) => ({ argsz: number(input['argsz']), flags: number(input['flags']), ptId: number(input['pt_id']) }),
    write: ({ ptId }) => ({ pt_id: ptId }),
  },
  VFIO_DEVICE_DETACH_IOMMUFD_PT: {
    read: (input) => ({ argsz: number(input['argsz']), flags: number(input['flags']) }),
    write: () => ({}),
  },
  VFIO_DEVICE_GET_REGION_INFO: {
    read: (input) => ({ argsz: number(input['argsz']), flags: 0, index: number(input['index']), size: 0n, offset: 0n }),
    write: ({ argsz, flags, size, offset }) => ({ argsz, flags: BigInt(flags), size, offset }),
  },
};
