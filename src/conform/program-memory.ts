/**
 * The memory of the recorded program as its recording names it: regions `m1`, `m2`, ... of the calling process, what is in them, and what a
 * call changed there. Where two lie at one address, the newest is meant.
 */
import { pageBytes } from '#hostmem/memory';
import { readBytes, writeBytes } from '../kernel/bytes.ts';
import { Errno } from '../kernel/errno.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { userAddress, userWriteAddress } from '../kernel/process.ts';
import { bytesOf, told } from './trace-bytes.ts';
import type { TraceFields, TraceValue } from './trace-file.ts';

interface Region {
  readonly name: string;
  readonly start: bigint;
  readonly bytes: number;
}

/** What regions had in them at one moment. */
export type Contents = readonly { readonly region: Region; readonly bytes: Uint8Array }[];

/** Larger regions are not looked at for changes, as the recorder did not either. */
const largestTracked = 1 << 20;

const big = (value: TraceValue | undefined): bigint => BigInt((value ?? 0) as bigint | number);

export class ProgramMemory {
  readonly #kernel: Kernel;
  readonly #regions: Region[] = [];

  constructor(kernel: Kernel) {
    this.#kernel = kernel;
  }

  add(name: string, start: bigint, bytes: number): void {
    this.#regions.push({ name, start, bytes });
  }

  /** What the program has stored in its own memory (MEM). */
  store(writes: readonly TraceFields[]): void {
    for (const { region, off, data } of writes) this.write(this.#startOf(region) + big(off), bytesOf(data)!);
  }

  #startOf(name: TraceValue | undefined): bigint {
    const found = this.#regions.findLast((region) => region.name === name);
    if (found === undefined) throw new Error(`the recording has no region ${String(name)}`);
    return found.start;
  }

  /** How many of `bytes` bytes from `va` on the program could read, or write, before the first that it cannot. */
  reachable(va: bigint, bytes: number, write: boolean): number {
    const addressOf = write ? userWriteAddress : userAddress;
    for (let done = 0; done < bytes; done += pageBytes - Number((va + BigInt(done)) % BigInt(pageBytes))) {
      if (!succeeds(() => addressOf(this.#kernel, this.#kernel.process, va + BigInt(done)))) return done;
    }
    return bytes;
  }

  read(va: bigint, bytes: Uint8Array): void {
    this.#eachPage(va, bytes, (at, part) => readBytes(this.#kernel.host.ram, at, part));
  }

  write(va: bigint, bytes: Uint8Array): void {
    this.#eachPage(va, bytes, (at, part) => writeBytes(this.#kernel.host.ram, at, part));
  }

  #eachPage(start: bigint, bytes: Uint8Array, visit: (at: number, part: Uint8Array) => void): void {
    for (let done = 0; done < bytes.length; ) {
      const va = start + BigInt(done);
      const part = bytes.subarray(done, done + pageBytes - Number(va % BigInt(pageBytes)));
      visit(userAddress(this.#kernel, this.#kernel.process, va), part);
      done += part.length;
    }
  }

  /** What is in each region that the calling process still has as a whole. */
  contents(): Contents {
    const found: { region: Region; bytes: Uint8Array }[] = [];
    for (const region of this.#regions) {
      if (region.bytes > largestTracked || this.reachable(region.start, region.bytes, false) < region.bytes) continue;
      const bytes = new Uint8Array(region.bytes);
      this.read(region.start, bytes);
      found.push({ region, bytes });
    }
    return found;
  }

  /** Of each region, from the first byte that changed to the last one. */
  changesSince(before: Contents): TraceFields[] {
    const changes: TraceFields[] = [];
    const now = this.contents();
    for (const [index, { region, bytes }] of now.entries()) {
      const old = before[index]!.bytes;
      const first = bytes.findIndex((byte, at) => byte !== old[at]);
      const last = bytes.findLastIndex((byte, at) => byte !== old[at]);
      if (first >= 0) changes.push({ region: region.name, off: BigInt(first), data: told(bytes.subarray(first, last + 1)) });
    }
    return changes;
  }
}

function succeeds(call: () => unknown): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (error instanceof Errno) return false;
    throw error;
  }
}
