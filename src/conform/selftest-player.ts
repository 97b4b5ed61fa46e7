/**
 * Plays a recording of the kernel's selftest, or of a probe on the same mock world, to the model: a host with the mock IOMMU and the
 * processes that the recorded program forks. What the model answered is for `compare.ts` to judge.
 */
import { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { MockDriver } from '../drivers/mock/driver.ts';
import { readBytes, writeBytes } from '../kernel/bytes.ts';
import { Errno } from '../kernel/errno.ts';
import type { Sized } from '../kernel/argument.ts';
import { closeAll, shareFiles } from '../kernel/file.ts';
import { Kernel, KernelRoot } from '../kernel/kernel.ts';
import { createMemfd, growMemfd, mmapMemfd } from '../kernel/memfd.ts';
import { linux72 } from '../kernel/operations.ts';
import { createProcess, markCompound, mmap, munmap, Process, shareMemory, userAddress } from '../kernel/process.ts';
import { testIoctl, type TestCommands } from '../kernel/selftest/commands.ts';
import { close, ioctl, ioctlUnknown, open, poll, read, write, type Commands } from '../kernel/syscalls.ts';
import type { Outcome, Played, Player } from './compare.ts';
import { arguments_, type Call } from './ioctl-arguments.ts';
import { bytesOf, testArguments, type TestCall } from './test-arguments.ts';
import type { Accounting, TraceFields, TraceLine, TraceValue } from './trace-file.ts';

/** A mapping of the recorded program, the newest last. */
interface Region {
  readonly name: string;
  readonly start: bigint;
  readonly bytes: number;
}

const nothing: Outcome = { ret: 0, errno: null, out: {} };
const remarks = new Set(['PHASE', 'STEP', 'CAP_SET', 'IOMMU_TEST_SET_TEMP_MEMORY_LIMIT']);
/** Larger regions are not looked at for changes, as the recorder did not either. */
const largestTracked = 1 << 20;
/** Beside the memory of the recorded program: page tables. */
const spareBytes = 16 << 20;
const kernelBytes = 48 << 20;
/** No address of a process is above this one. */
const topOfMemory = 1n << 47n;

const PollEvent = { IN: 1, OUT: 4 } as const;

const big = (value: TraceValue | undefined): bigint => BigInt((value ?? 0) as bigint | number);

export class SelftestPlayer implements Player {
  readonly #kernel: Kernel;
  readonly #processes = new Map<number, Ref<'Process'>>();
  readonly #fds = new Map<string, number>();
  readonly #regions: Region[] = [];
  /** The last line of each process, by `seq`. */
  readonly #lastSeq = new Map<number, number>();
  readonly #children = new Map<number, number[]>();
  /** Processes that were waited for and have calls of before still to come. */
  readonly #ending = new Set<number>();

  constructor(lines: readonly TraceLine[]) {
    const host = Host.create(ramBytesFor(lines), kernelBytes);
    MockDriver.boot(host);
    host.kernelRoot = KernelRoot.create(host.kernel);
    this.#kernel = new Kernel(host, linux72, new MockDriver(host));
    for (const { proc, seq } of lines) this.#lastSeq.set(proc, seq);
  }

  play(line: TraceLine): Played {
    this.#enter(line.proc);
    const played = this.#answer(line);
    if (this.#ending.has(line.proc) && this.#lastSeq.get(line.proc) === line.seq) this.#end(line.proc);
    return played;
  }

  #answer(line: TraceLine): Played {
    if (remarks.has(line.call)) return { ...nothing, out: line.out ?? {}, acct: this.#accounting() };
    if (line.call === 'MEM') return this.#remember(line.rest['writes'] as readonly TraceFields[]);
    const call = arguments_[line.call as keyof Commands];
    if (call !== undefined) return this.#ioctl(line, call as Call<keyof Commands>);
    const test = testArguments[line.call as keyof TestCommands];
    if (test !== undefined) return this.#test(line, test as TestCall<keyof TestCommands>);
    try {
      if (line.call === 'READ') return this.#read(line);
      if (line.call === 'WRITE') return { ...nothing, ret: write(this.#kernel, this.#fd(line.fd), bytesOf(line.in['data'])!), out: line.out ?? {} };
      if (line.call === 'POLL') return this.#poll(line);
      const out = this.#systemCall(line);
      return out === null ? { skip: `nobody plays ${line.call} yet` } : { ret: 0, errno: null, out, acct: this.#accounting() };
    } catch (error) {
      return { ret: -1, errno: nameOf(error), out: line.out ?? {}, acct: this.#accounting() };
    }
  }

  #enter(number: number): void {
    let process = this.#processes.get(number);
    if (process === undefined) this.#processes.set(number, (process = createProcess(this.#kernel, number + 1)));
    this.#kernel.enter(process);
  }

  #accounting(): Accounting {
    return { vm_pin_kb: Process.pinnedPages.peek(this.#kernel.memory, this.#kernel.process) * 4, vm_lck_kb: 0 };
  }

  #fd(name: string | undefined): number {
    return this.#fds.get(name ?? '') ?? -1;
  }

  #ioctl<N extends keyof Commands>(line: TraceLine, call: Call<N>): Outcome {
    const arg = call.read(line.in, (name) => this.#fd(name));
    if (line.call.startsWith('IOMMU_')) describeStruct(line.in, arg);
    if (line.call === 'VFIO_IOMMU_GET_INFO') (arg as Commands['VFIO_IOMMU_GET_INFO']).bytes = bufferOf(line);
    let errno: string | null = null;
    let ret = 0;
    try {
      ret = ioctl(this.#kernel, this.#fd(line.fd), line.call as N, arg);
    } catch (error) {
      errno = nameOf(error);
    }
    return { ...this.#answered(line, errno, call.write(arg)), ret: errno === null ? ret : -1 };
  }

  #test<N extends keyof TestCommands>(line: TraceLine, call: TestCall<N>): Outcome {
    const arg = call.read(line.in, (name) => this.#fd(name));
    const copies = line.call === 'IOMMU_TEST_ACCESS_RW';
    if (copies) this.#fillBuffer(line, arg as TestCommands['IOMMU_TEST_ACCESS_RW']);
    const before = copies ? this.#contents() : [];
    let errno: string | null = null;
    try {
      testIoctl(this.#kernel, this.#fd(line.fd), line.call as N, arg);
    } catch (error) {
      errno = nameOf(error);
    }
    const out = { ...(line.in['id'] === undefined ? {} : { id: line.in['id'] }), ...call.write(arg) };
    if (!copies) return this.#answered(line, errno, out);
    const { buffer } = arg as TestCommands['IOMMU_TEST_ACCESS_RW'];
    return this.#answered(line, errno, { ...out, data: told(buffer), mem: this.#changesSince(before) });
  }

  /** The buffer of a copy: what the recording shows of private memory, or room for what is read. */
  #fillBuffer({ in: input }: TraceLine, arg: TestCommands['IOMMU_TEST_ACCESS_RW']): void {
    const isThere = input['uptr_at'] !== 'unmapped' && input['uptr_at'] !== null;
    if (isThere) arg.buffer ??= new Uint8Array(arg.length > 1n << 24n ? 0 : Number(arg.length));
    else arg.buffer = null;
  }

  /** The recording's names of new descriptors are the model's too. */
  #answered(line: TraceLine, errno: string | null, out: Readonly<Record<string, unknown>>): Outcome {
    const names: Record<string, TraceValue> = {};
    for (const [field, name] of Object.entries(line.out ?? {})) {
      // What the recorder decoded stands beside the bytes.
      if (field.endsWith('_decoded')) names[field] = name;
      if (!field.endsWith('_name')) continue;
      names[field] = name;
      const fd = out[field.slice(0, -'_name'.length)];
      if (errno === null && typeof name === 'string' && typeof fd === 'number') this.#fds.set(name, fd);
    }
    return { ret: errno === null ? 0 : -1, errno, out: { ...out, ...names }, acct: this.#accounting() };
  }

  #systemCall({ call, in: input, out = {}, fd, proc, seq }: TraceLine): Readonly<Record<string, unknown>> | null {
    switch (call) {
      case 'OPEN': {
        // Any other file is read by nobody; a private mapping of it has pages of its own.
        const opened = input['path'] === '/dev/iommu' ? open(this.#kernel, '/dev/iommu') : createMemfd(this.#kernel, false);
        this.#fds.set(String(out['fd']), opened);
        return { fd: out['fd'], rawfd: opened };
      }
      case 'CLOSE': {
        close(this.#kernel, this.#fd(fd));
        return {};
      }
      case 'MEMFD_CREATE': {
        const hugePages = (Number(input['flags']) & 4) !== 0;
        this.#fds.set(String(out['fd']), createMemfd(this.#kernel, hugePages));
        return out;
      }
      case 'FTRUNCATE': {
        growMemfd(this.#kernel, this.#fd(fd), Number(input['length']));
        return {};
      }
      case 'UNKNOWN_IOCTL': {
        const argument = input['_badptr'] === undefined ? {} : { argument: 'absent' as const };
        return ioctlUnknown(this.#kernel, this.#fd(fd), Number(input['request']), argument);
      }
      // The container's command that iommufd does not have.
      case 'VFIO_IOMMU_DIRTY_PAGES': return ioctlUnknown(this.#kernel, this.#fd(fd), 0x3b75, {});
      case 'MMAP': return this.#mmap(input, out);
      case 'MUNMAP': {
        this.#unmap(big(input['addr']), big(input['length']));
        return {};
      }
      case 'FORK': return this.#fork(proc, out);
      case 'WAITPID': return this.#wait(proc, seq, out);
      default: return null;
    }
  }

  /** `pgfaults` and `vevents` are the recorder's own decoding of the bytes. */
  #read({ in: input, fd, out = {} }: TraceLine): Outcome {
    const bytes = read(this.#kernel, this.#fd(fd), Number(input['count']));
    return { ret: bytes.length, errno: null, out: { ...out, data: told(bytes) } };
  }

  #poll({ in: input, fd }: TraceLine): Outcome {
    const { readable, writable } = poll(this.#kernel, this.#fd(fd));
    const events = (readable ? PollEvent.IN : 0) | (writable ? PollEvent.OUT : 0);
    const found = events & Number(input['events']);
    return { ret: found === 0 ? 0 : 1, errno: null, out: { revents: BigInt(found) } };
  }

  #mmap(input: TraceFields, out: TraceFields): TraceFields | null {
    const kernel = this.#kernel;
    const bytes = Number(input['length']);
    const flags = String(input['flags']);
    const writable = String(input['prot']).includes('w');
    const file = String(input['fd'] ?? '');
    if (file.startsWith('iommu') || out['addr'] === undefined) return null;
    const start = big(out['addr']);
    if (flags.includes('FIXED')) this.#unmap(start, BigInt(bytes));
    if (file.startsWith('memfd')) mmapMemfd(kernel, this.#fd(file), bytes, writable, start);
    else mmap(kernel, kernel.process, bytes, writable, start);
    if (flags.includes('HUGETLB')) markCompound(kernel, kernel.process, start);
    this.#regions.push({ name: String(out['region']), start, bytes });
    return out;
  }

  /** To Linux it is no error that nothing is mapped there. */
  #unmap(start: bigint, bytes: bigint): void {
    try {
      munmap(this.#kernel, this.#kernel.process, start, bytes);
    } catch (error) {
      if (nameOf(error) !== 'EINVAL') throw error;
    }
  }

  #fork(parent: number, out: TraceFields): TraceFields {
    const child = Number(out['child_proc']);
    const from = this.#kernel.process;
    this.#children.set(parent, [...(this.#children.get(parent) ?? []), child]);
    this.#enter(child);
    shareMemory(this.#kernel, from, this.#kernel.process);
    shareFiles(this.#kernel, from, this.#kernel.process);
    this.#enter(parent);
    return out;
  }

  /** The child is gone, or goes with its last call. */
  #wait(parent: number, seq: number, out: TraceFields): TraceFields {
    const child = this.#children.get(parent)?.shift();
    if (child === undefined) return out;
    if ((this.#lastSeq.get(child) ?? 0) > seq) this.#ending.add(child);
    else this.#end(child);
    this.#enter(parent);
    return out;
  }

  /** exit(2): memory first, then files. */
  #end(number: number): void {
    this.#enter(number);
    this.#unmap(0n, topOfMemory);
    closeAll(this.#kernel, this.#kernel.process);
  }

  /** What the program has stored in its own memory. */
  #remember(writes: readonly TraceFields[]): Outcome {
    for (const { region, off, data } of writes) {
      const start = this.#regions.findLast(({ name }) => name === region)!.start + big(off);
      this.#eachPage(start, bytesOf(data)!, (at, bytes) => writeBytes(this.#kernel.host.ram, at, bytes));
    }
    return nothing;
  }

  #eachPage(start: bigint, bytes: Uint8Array, visit: (at: number, part: Uint8Array) => void): void {
    for (let done = 0; done < bytes.length; ) {
      const va = start + BigInt(done);
      const part = bytes.subarray(done, done + 4096 - Number(va & 0xfffn));
      visit(userAddress(this.#kernel, this.#kernel.process, va), part);
      done += part.length;
    }
  }

  /** What is in each region that the calling process still has. */
  #contents(): { region: Region; bytes: Uint8Array }[] {
    const found: { region: Region; bytes: Uint8Array }[] = [];
    for (const region of this.#regions) {
      if (region.bytes > largestTracked) continue;
      const bytes = new Uint8Array(region.bytes);
      try {
        this.#eachPage(region.start, bytes, (at, part) => readBytes(this.#kernel.host.ram, at, part));
        found.push({ region, bytes });
      } catch (error) {
        // It was unmapped.
        nameOf(error);
      }
    }
    return found;
  }

  /** Of each region, from the first byte that changed to the last one. */
  #changesSince(before: readonly { region: Region; bytes: Uint8Array }[]): TraceFields[] {
    const changes: TraceFields[] = [];
    const now = this.#contents();
    for (const [index, { region, bytes }] of now.entries()) {
      const old = before[index]!.bytes;
      const first = bytes.findIndex((byte, at) => byte !== old[at]);
      const last = bytes.findLastIndex((byte, at) => byte !== old[at]);
      if (first >= 0) changes.push({ region: region.name, off: BigInt(first), data: told(bytes.subarray(first, last + 1)) });
    }
    return changes;
  }
}

/** Bytes as a recording writes them. */
function told(bytes: Uint8Array | null): TraceValue {
  if (bytes === null) return null;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0'));
  if (bytes.length <= 16 || bytes.some((byte) => byte !== bytes[0])) return hex.join('');
  return { len: bytes.length, fill: hex[0]! };
}

/** Of an `Errno`, as a recording names it; anything else is thrown on. */
function nameOf(error: unknown): string {
  if (!(error instanceof Errno)) throw error;
  // The recorder knew no name for this one.
  return error.name === 'EBADE' ? 'E52' : error.name;
}

/** What the program had in its buffer, seen where the kernel writes nothing: behind the first capability, or at the end. */
function bufferOf({ in: input, out = {} }: TraceLine): Uint8Array {
  const raw = bytesOf(out['raw'] ?? '') ?? new Uint8Array(0);
  return new Uint8Array(Number(input['argsz'])).fill(raw[36] ?? raw.at(-1) ?? 0);
}

/** How long the user's struct is, and where it lies. */
function describeStruct(input: TraceFields, arg: object): void {
  const sized = arg as Sized;
  const { size, _extra: extra, _badptr: absent } = input;
  if (size !== undefined) sized.size = Number(size);
  if (extra !== undefined) sized.nonzeroTail = /[1-9a-f]/.test(typeof extra === 'string' ? extra : String((extra as TraceFields)['fill']));
  if (absent !== undefined) sized.argument = 'absent';
}

/** Twice what the recorded program maps, for what stays pinned, and room for page tables. */
function ramBytesFor(lines: readonly TraceLine[]): number {
  let bytes = spareBytes;
  for (const { call, in: input } of lines) if (call === 'MMAP' || call === 'FTRUNCATE') bytes += Number(input['length'] ?? 0);
  return bytes;
}
