/** Arguments of ioctls between a recording's field names and the model's: one entry a command. */
import { longestEntry, mostEntries } from '../kernel/hwpt-invalidate.ts';
import { rangeBytes } from '../kernel/ioas.ts';
import type { Commands } from '../kernel/syscalls.ts';
import { bytesOf, hex, told } from './trace-bytes.ts';
import type { TraceFields, TraceValue } from './trace-file.ts';

export interface Call<N extends keyof Commands> {
  /** `fdOf` gives the model's descriptor of a logical name. */
  read(input: TraceFields, fdOf: (name: string | undefined) => number): Commands[N];
  /** What the kernel may have written. */
  write(arg: Commands[N]): Readonly<Record<string, unknown>>;
}

const number = (value: TraceValue | undefined): number => Number(value ?? 0);
const big = (value: TraceValue | undefined): bigint => BigInt((value ?? 0) as bigint | number);
/** Where the recorded program's array cannot be read, the recording has nulls. */
function rangesOf(value: TraceValue | undefined): { ranges: [bigint, bigint][]; readableBytes?: number } {
  const shown = (value ?? []) as readonly (readonly [bigint, bigint] | null)[];
  const ranges = shown.map((range): [bigint, bigint] => [big(range?.[0]), big(range?.[1])]);
  return shown.includes(null) ? { ranges, readableBytes: shown.indexOf(null) * rangeBytes } : { ranges };
}

/** The chain of capabilities behind VFIO_IOMMU_GET_INFO; none without room for all. */
function capabilitiesOf(bytes: Uint8Array, first: number): Readonly<Record<string, unknown>>[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found: Readonly<Record<string, unknown>>[] = [];
  for (let at = bytes.length < 24 ? 0 : first; at !== 0; at = view.getUint32(at + 4, true)) {
    const id = view.getUint16(at, true);
    const head = { id, version: view.getUint16(at + 2, true), next: view.getUint32(at + 4, true) };
    const count = view.getUint32(at + 8, true);
    const ranges = id === 1 ? Array.from({ length: count }, (_, index) => rangeAt(view, at + 16 + index * 16)) : [];
    found.push(id === 1 ? { ...head, nr_iovas: count, iova_ranges: ranges } : { ...head, avail: count });
  }
  return found;
}

const rangeAt = (view: DataView, at: number): [bigint, bigint] => [view.getBigUint64(at, true), view.getBigUint64(at + 8, true)];

function dataOf(value: TraceValue | undefined): { data?: Uint8Array } {
  const data = bytesOf(value);
  return data === null ? {} : { data };
}

function bitmapOf(value: TraceValue | undefined): { bitmap?: Uint8Array } {
  const bitmap = bytesOf(value);
  return bitmap === null ? {} : { bitmap };
}

/** The entries as they lie in memory, of which the recording shows the first ones, and of a long one the beginning: the rest is taken for zeros. */
function entriesOf(input: TraceFields): Uint8Array | null {
  if (input['data_uptr_at'] === null) return null;
  const [length, count] = [number(input['entry_len']), number(input['entry_num'])];
  const entries = (input['entries'] ?? []) as readonly (TraceFields | null)[];
  const bytes = new Uint8Array(length > longestEntry || count > mostEntries ? 0 : length * count);
  for (const [index, entry] of entries.entries()) {
    const raw = bytesOf(entry?.['raw']) ?? new Uint8Array(0);
    if ((index + 1) * length <= bytes.length) bytes.set(raw.subarray(0, length), index * length);
  }
  return bytes;
}

const plain = (input: TraceFields): { arg: number } => ({ arg: number(input['arg']) });

/** The descriptor that a field holds: the model's for the logical name beside it, or the number itself (-1, a closed one). */
export function descriptor(input: TraceFields, field: string, fdOf: (name: string | undefined) => number): number {
  const name = input[`${field}_name`];
  return typeof name === 'string' ? fdOf(name) : Math.min(number(input[field]), 1 << 20);
}

export const arguments_: { readonly [N in keyof Commands]: Call<N> } = {
  IOMMU_DESTROY: { read: (input) => ({ id: number(input['id']) }), write: () => ({}) },
  IOMMU_FAULT_QUEUE_ALLOC: {
    read: (input) => ({ flags: number(input['flags']), outFaultId: number(input['out_fault_id']), outFaultFd: number(input['out_fault_fd']) }),
    write: ({ outFaultId, outFaultFd }) => ({ out_fault_id: outFaultId, out_fault_fd: outFaultFd }),
  },
  IOMMU_GET_HW_INFO: {
    read: (input) => ({
      flags: number(input['flags']), devId: number(input['dev_id']), reserved: number(input['__reserved']), dataLength: number(input['data_len']),
      dataType: number(input['in_or_out_data_type']), outMaxPasidLog2: number(input['out_max_pasid_log2']),
      outCapabilities: big(input['out_capabilities']),
    }),
    write: ({ dataLength, dataType, data, outMaxPasidLog2, outCapabilities }) => ({
      data_len: dataLength, in_or_out_data_type: dataType, out_max_pasid_log2: outMaxPasidLog2, out_capabilities: outCapabilities,
      ...(data === undefined ? {} : { data: told(data) }),
    }),
  },
  IOMMU_HWPT_ALLOC: {
    read: (input) => ({
      flags: number(input['flags']), devId: number(input['dev_id']), ptId: number(input['pt_id']), reserved: number(input['__reserved']),
      dataType: number(input['data_type']), dataLength: number(input['data_len']), faultId: number(input['fault_id']), outHwptId: number(input['out_hwpt_id']), ...dataOf(input['data']),
    }),
    write: ({ outHwptId }) => ({ out_hwpt_id: outHwptId }),
  },
  IOMMU_HWPT_GET_DIRTY_BITMAP: {
    read: (input) => ({
      hwptId: number(input['hwpt_id']), flags: number(input['flags']), reserved: number(input['__reserved']), iova: big(input['iova']),
      length: big(input['length']), pageSize: big(input['page_size']), ...bitmapOf(input['bitmap']),
    }),
    write: ({ bitmap }) => ({ bitmap: bitmap === undefined ? null : told(bitmap) }),
  },
  IOMMU_HWPT_SET_DIRTY_TRACKING: { read: (input) => ({ flags: number(input['flags']), hwptId: number(input['hwpt_id']) }), write: () => ({}) },
  IOMMU_HWPT_INVALIDATE: {
    read: (input) => ({
      hwptId: number(input['hwpt_id']), dataType: number(input['data_type']), entryLength: number(input['entry_len']), entryCount: number(input['entry_num']),
      reserved: number(input['__reserved']), data: entriesOf(input),
    }),
    write: ({ entryCount }) => ({ entry_num: entryCount }),
  },
  IOMMU_HW_QUEUE_ALLOC: {
    read: (input) => ({
      flags: number(input['flags']), viommuId: number(input['viommu_id']), type: number(input['type']), index: number(input['index']),
      nestingParentIova: big(input['nesting_parent_iova']), length: big(input['length']), outHwQueueId: number(input['out_hw_queue_id']),
    }),
    write: ({ outHwQueueId }) => ({ out_hw_queue_id: outHwQueueId }),
  },
  IOMMU_VDEVICE_ALLOC: {
    read: (input) => ({ viommuId: number(input['viommu_id']), devId: number(input['dev_id']), virtId: big(input['virt_id']), outVdeviceId: number(input['out_vdevice_id']) }),
    write: ({ outVdeviceId }) => ({ out_vdevice_id: outVdeviceId }),
  },
  IOMMU_VEVENTQ_ALLOC: {
    read: (input) => ({
      flags: number(input['flags']), viommuId: number(input['viommu_id']), type: number(input['type']), depth: number(input['veventq_depth']),
      reserved: number(input['__reserved']), outEventQueueId: number(input['out_event_queue_id']), outEventQueueFd: number(input['out_event_queue_fd']),
    }),
    write: ({ outEventQueueId, outEventQueueFd }) => ({ out_veventq_id: outEventQueueId, out_veventq_fd: outEventQueueFd }),
  },
  IOMMU_IOAS_ALLOC: {
    read: (input) => ({ flags: number(input['flags']), outIoasId: number(input['out_ioas_id']) }),
    write: ({ outIoasId }) => ({ out_ioas_id: outIoasId }),
  },
  IOMMU_IOAS_ALLOW_IOVAS: {
    read: (input) => ({ ioasId: number(input['ioas_id']), reserved: number(input['__reserved']), ...rangesOf(input['ranges']) }),
    write: () => ({}),
  },
  IOMMU_IOAS_COPY: {
    read: (input) => ({
      flags: number(input['flags']), dstIoasId: number(input['dst_ioas_id']), srcIoasId: number(input['src_ioas_id']), length: big(input['length']),
      dstIova: big(input['dst_iova']), srcIova: big(input['src_iova']),
    }),
    write: ({ dstIova }) => ({ dst_iova: dstIova }),
  },
  IOMMU_IOAS_IOVA_RANGES: {
    read: (input) => ({
      ioasId: number(input['ioas_id']), reserved: number(input['__reserved']), numIovas: number(input['num_iovas']), ranges: [],
      outIovaAlignment: big(input['out_iova_alignment']),
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
  IOMMU_IOAS_MAP_FILE: {
    read: (input, fdOf) => ({
      flags: number(input['flags']), ioasId: number(input['ioas_id']), fd: descriptor(input, 'fd', fdOf), start: big(input['start']),
      length: big(input['length']), iova: big(input['iova']),
    }),
    write: ({ iova }) => ({ iova }),
  },
  IOMMU_IOAS_UNMAP: {
    read: (input) => ({ ioasId: number(input['ioas_id']), iova: big(input['iova']), length: big(input['length']) }),
    write: ({ length }) => ({ length }),
  },
  IOMMU_IOAS_CHANGE_PROCESS: { read: (input) => ({ reserved: number(input['__reserved']) }), write: () => ({}) },
  IOMMU_OPTION: {
    read: (input) => ({
      optionId: number(input['option_id']), op: number(input['op']), reserved: number(input['__reserved']), objectId: number(input['object_id']),
      val64: big(input['val64']),
    }),
    write: ({ val64 }) => ({ val64 }),
  },
  IOMMU_VFIO_IOAS: {
    read: (input) => ({ ioasId: number(input['ioas_id']), op: number(input['op']), reserved: number(input['__reserved']) }),
    write: ({ ioasId }) => ({ ioas_id: ioasId }),
  },
  VFIO_GET_API_VERSION: { read: plain, write: () => ({}) },
  VFIO_CHECK_EXTENSION: { read: plain, write: () => ({}) },
  VFIO_SET_IOMMU: { read: plain, write: () => ({}) },
  VFIO_IOMMU_GET_INFO: {
    read: (input) => ({
      argsz: number(input['argsz']), flags: number(input['flags']), iovaPageSizes: big(input['iova_pgsizes']), capOffset: number(input['cap_offset']),
    }),
    write: ({ argsz, flags, iovaPageSizes, capOffset, bytes }) => ({
      argsz, flags: BigInt(flags), iova_pgsizes: iovaPageSizes, cap_offset: capOffset, ...(bytes === undefined ? {} : { raw: hex(bytes), caps: capabilitiesOf(bytes, capOffset) }),
    }),
  },
  VFIO_IOMMU_MAP_DMA: {
    read: (input) => ({
      argsz: number(input['argsz']), flags: number(input['flags']), vaddr: big(input['vaddr']), iova: big(input['iova']), length: big(input['size']),
    }),
    write: () => ({}),
  },
  VFIO_IOMMU_UNMAP_DMA: {
    read: (input) => ({ argsz: number(input['argsz']), flags: number(input['flags']), iova: big(input['iova']), length: big(input['size']) }),
    write: ({ length }) => ({ size: length }),
  },
  IOMMU_VIOMMU_ALLOC: {
    read: (input) => ({
      flags: number(input['flags']), type: number(input['type']), devId: number(input['dev_id']), hwptId: number(input['hwpt_id']), outViommuId: number(input['out_viommu_id']),
      dataLength: number(input['data_len']), ...dataOf(input['data']),
    }),
    write: ({ outViommuId, data }) => ({ out_viommu_id: outViommuId, ...(data === undefined ? {} : { data: told(data) }) }),
  },
  VFIO_DEVICE_BIND_IOMMUFD: {
    read: (input, fdOf) => ({
      argsz: number(input['argsz']), flags: number(input['flags']), iommufd: descriptor(input, 'iommufd', fdOf), outDevid: number(input['out_devid']),
    }),
    write: ({ outDevid }) => ({ out_devid: outDevid }),
  },
  VFIO_DEVICE_ATTACH_IOMMUFD_PT: {
    read: (input) => ({ argsz: number(input['argsz']), flags: number(input['flags']), ptId: number(input['pt_id']), pasid: number(input['pasid']) }),
    write: ({ ptId }) => ({ pt_id: ptId }),
  },
  VFIO_DEVICE_DETACH_IOMMUFD_PT: {
    read: (input) => ({ argsz: number(input['argsz']), flags: number(input['flags']), pasid: number(input['pasid']) }),
    write: () => ({}),
  },
  VFIO_DEVICE_GET_INFO: {
    read: (input) => ({ argsz: number(input['argsz']), flags: 0, numRegions: 0, numIrqs: 0 }),
    write: ({ argsz, flags, numRegions, numIrqs }) => ({ argsz, flags: BigInt(flags), num_regions: numRegions, num_irqs: numIrqs }),
  },
  VFIO_DEVICE_GET_REGION_INFO: {
    read: (input) => ({ argsz: number(input['argsz']), flags: 0, index: number(input['index']), size: 0n, offset: 0n }),
    write: ({ argsz, flags, size, offset }) => ({ argsz, flags: BigInt(flags), size, offset }),
  },
  VFIO_DEVICE_RESET: { read: () => ({}), write: () => ({}) },
  VFIO_DEVICE_FEATURE: {
    read: (input) => ({
      argsz: number(input['argsz']), flags: number(input['flags']), regionIndex: number(input['region_index']), dmabufFlags: 0, ranges: rangesOf(input['ranges']).ranges,
    }),
    write: () => ({}),
  },
  // A recording has the addresses of the group's arguments, not what stands there: the player fills them in.
  VFIO_GROUP_SET_CONTAINER: { read: () => ({ fd: -1 }), write: () => ({}) },
  VFIO_GROUP_GET_DEVICE_FD: { read: () => ({ name: '', outFd: -1 }), write: () => ({}) },
};
