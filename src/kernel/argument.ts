/**
 * The user's struct behind an ioctl, as far as it is more than its fields: how long it is and what memory it lies in.
 *
 * A handler writes its answer into the argument only after `respond`, so that what cannot be copied out changes nothing there.
 */
import type { UserData } from '../drivers/driver.ts';
import { fail } from './errno.ts';
import type { Kernel } from './kernel.ts';

/** Where the argument lies, when that is not ordinary memory: on a page that the kernel can read but not write, or on none. */
export type Argument = 'read-only' | 'absent';

/** What every command of /dev/iommu carries; a caller that leaves `size` out has a struct of the size that the kernel knows. */
export interface Sized {
  /** Bytes of the user's struct, as the user says. */
  size?: number;
  /** Some byte behind what the kernel knows is not 0. */
  nonzeroTail?: boolean;
  argument?: Argument;
}

/** What every command of VFIO with a struct carries. */
export interface Argsized {
  /** Bytes of the user's struct, as the user says. */
  argsz: number;
  argument?: Argument;
}

/**
 * The buffer that a command's struct points to, as far as it is not ordinary memory: how many bytes from its start can be read, and how
 * many can be written; all where absent. A null pointer and one to nothing have 0 of both, a read-only page has 0 of the second.
 */
export interface UserBuffer {
  readableBytes?: number;
  writableBytes?: number;
}

/** `copy_from_user` of the first `bytes` bytes of the buffer: EFAULT. To copy nothing never fails, wherever the pointer leads. */
export function checkReadable({ readableBytes }: UserBuffer, bytes: number): void {
  if (bytes > (readableBytes ?? bytes)) fail('EFAULT', `of ${bytes} bytes of the buffer ${readableBytes} can be read`);
}

export const isWritable = ({ writableBytes }: UserBuffer, bytes: number): boolean => bytes <= (writableBytes ?? bytes);

/** `copy_to_user` likewise. */
export function checkWritable(buffer: UserBuffer, bytes: number): void {
  if (!isWritable(buffer, bytes)) fail('EFAULT', `of ${bytes} bytes of the buffer ${buffer.writableBytes} can be written`);
}

/** The buffer with data for the driver, which may write its answer over them. */
export interface DataBuffer extends UserBuffer {
  dataLength?: number;
  /** Absent with a length, they lie where nothing is mapped. */
  data?: Uint8Array;
}

/** What the driver gets of it, to read for itself. */
export function userData(type: number, { dataLength = 0, data, readableBytes = data === undefined ? 0 : dataLength }: DataBuffer): UserData {
  return { type, bytes: data ?? new Uint8Array(dataLength), absent: readableBytes < dataLength };
}

/** A field at the end of a struct that a caller may leave out by a smaller `size`. */
export interface TailField {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Copies the answer out (`iommufd_ucmd_respond`). EFAULT; what the call made is the caller's to undo. */
export function respond(kernel: Kernel, arg: object): void {
  if (refusesAnswer(kernel, arg)) fail('EFAULT', 'the argument cannot be written');
}

export const refusesAnswer = (kernel: Kernel, arg: object): boolean => (arg as Sized).argument === 'read-only' || refusesCopy(kernel);

/** Whether a copy to ordinary memory of the user fails all the same. */
export const refusesCopy = (kernel: Kernel): boolean => kernel.memory.faults !== null && kernel.memory.faults.refuses('a copy to the user');

/** That the struct itself can be read. EFAULT. */
export function checkPresent({ argument }: Pick<Sized, 'argument'>): void {
  if (argument === 'absent') fail('EFAULT', 'the argument cannot be read');
}

/** What VFIO asks of a struct: nobody looks at what lies behind the bytes that are known. EFAULT, EINVAL for one that is too short. */
export function checkArgsz(arg: Argsized, least: number): void {
  checkPresent(arg);
  if (arg.argsz < least) fail('EINVAL', `argsz is ${arg.argsz}, ${least} is the least`);
}

/** EFAULT, EINVAL for a struct that is too short, E2BIG for one with more in it than the kernel knows (SEMANTICS A3). */
export function checkSize(arg: object, smallest: number, known: number): void {
  const { size = known, nonzeroTail = false } = arg as Sized;
  checkPresent(arg);
  if (size < smallest) fail('EINVAL', `the struct has ${size} bytes, ${smallest} are the least`);
  if (size > known && nonzeroTail) fail('E2BIG', `the struct has bytes behind the ${known} that are known`);
}

/** Lets what lies behind the user's struct read as 0; returns what was there, for `restoreTail`. */
export function cutTail(arg: object, size: number | undefined, tail: readonly TailField[]): readonly unknown[] {
  const fields = arg as Record<string, unknown>;
  const before: unknown[] = [];
  for (const { name, offset, bytes } of tail) {
    before.push(fields[name]);
    if (size !== undefined && offset + bytes > size) fields[name] = firstBytes(fields[name], Math.max(size - offset, 0));
  }
  return before;
}

/** The answer is as long as the user's struct: what lies behind it keeps its value. */
export function restoreTail(arg: object, size: number | undefined, tail: readonly TailField[], before: readonly unknown[]): void {
  const fields = arg as Record<string, unknown>;
  for (const [index, { name, offset, bytes }] of tail.entries()) {
    if (size !== undefined && offset + bytes > size) fields[name] = before[index];
  }
}

/** Little-endian, of a field that is a number; what is none is there or not. */
function firstBytes(value: unknown, bytes: number): unknown {
  if (typeof value === 'bigint') return BigInt.asUintN(bytes * 8, value);
  return typeof value === 'number' ? value % 2 ** (bytes * 8) : undefined;
}
