/**
 * A command's struct, and the buffers of the recorded program that it points to: how much of one the kernel could read and write. A recording
 * says where a pointer leads (`<field>_at`); only the program's own regions are partly there, or read-only.
 */
import type { Sized, UserBuffer } from '../kernel/argument.ts';
import { rangeBytes } from '../kernel/ioas.ts';
import type { ProgramMemory } from './program-memory.ts';
import type { TraceFields, TraceLine, TraceValue } from './trace-file.ts';

interface Pointer {
  readonly field: string;
  /** What the recording shows of the buffer, null where the recorder could not read it. */
  readonly shown?: string;
  /** How many bytes the kernel may touch. */
  bytes(input: TraceFields): number;
}

const number = (value: TraceValue | undefined): number => Number(value ?? 0);
/** What is the program's own, its stack above all, is no longer than this. */
const mostPrivateBytes = 1 << 20;

const data: Pointer = { field: 'data_uptr', shown: 'data', bytes: (input) => number(input['data_len']) };
const ranges: Pointer = { field: 'allowed_iovas', bytes: (input) => number(input['num_iovas']) * rangeBytes };

/** Bytes of a bitmap with a bit a page; 0 where the struct says none. */
export function bitmapBytes(input: TraceFields): number {
  const pageBytes = BigInt((input['page_size'] ?? 0) as bigint | number);
  return pageBytes === 0n ? 0 : Number((BigInt((input['length'] ?? 0) as bigint | number) / pageBytes + 7n) / 8n);
}

const pointers: { readonly [call: string]: Pointer } = {
  IOMMU_GET_HW_INFO: { ...data, shown: '' },
  IOMMU_HWPT_ALLOC: data,
  IOMMU_HWPT_GET_DIRTY_BITMAP: { field: 'data', shown: 'bitmap', bytes: bitmapBytes },
  IOMMU_HWPT_INVALIDATE: { field: 'data_uptr', bytes: (input) => number(input['entry_len']) * number(input['entry_num']) },
  IOMMU_IOAS_ALLOW_IOVAS: ranges,
  IOMMU_IOAS_IOVA_RANGES: ranges,
  IOMMU_TEST_ACCESS_RW: { field: 'uptr', shown: 'data', bytes: (input) => number(input['length']) },
  IOMMU_TEST_DIRTY: { field: 'uptr', shown: 'bitmap', bytes: bitmapBytes },
  IOMMU_VIOMMU_ALLOC: data,
};

/** How long the user's struct is, what is behind the part that the kernel knows, and where it lies. What VFIO's commands call `size` is something else. */
export function describeStruct({ call, in: input }: TraceLine, arg: object): void {
  const sized = arg as Sized;
  const { size, tail, _extra: extra = tail, _badptr: absent } = input;
  if (size !== undefined && call.startsWith('IOMMU_')) sized.size = Number(size);
  if (extra !== undefined) sized.nonzeroTail = /[1-9a-f]/.test(typeof extra === 'string' ? extra : String((extra as TraceFields)['fill']));
  if (absent !== undefined) sized.argument = 'absent';
}

/** Notes in an argument what of its buffer is missing or read-only. Where the calling process has all of it, nothing. */
export function describeBuffer(memory: ProgramMemory, call: string, input: TraceFields, arg: object): void {
  const pointer = pointers[call];
  if (pointer === undefined) return;
  const at = input[`${pointer.field}_at`];
  const isNowhere = at === null || at === 'unmapped' || (at === 'private' && input[pointer.shown ?? ''] === null);
  const isRegion = typeof at === 'object' && at !== null;
  const bytes = pointer.bytes(input);
  const va = BigInt((input[pointer.field] ?? 0) as bigint | number);
  const buffer = arg as UserBuffer;
  const own = Math.min(bytes, mostPrivateBytes);
  const readable = isNowhere ? 0 : isRegion ? memory.reachable(va, bytes, false) : own;
  if (readable < bytes) buffer.readableBytes = readable;
  const writable = isNowhere ? 0 : isRegion ? memory.reachable(va, bytes, true) : own;
  if (writable < bytes) buffer.writableBytes = writable;
}
