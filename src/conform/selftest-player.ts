/**
 * Plays a recording of the kernel's selftest, or of a probe on the same mock world, to the model: a host with the mock IOMMU and the
 * processes that the recorded program forks. What the model answered is for `compare.ts` to judge.
 */
import { Host } from '#hostmem/host';
import type { Ref } from '#hostmem/object';
import { MockDriver } from '../drivers/mock/driver.ts';
import { Errno, fail } from '../kernel/errno.ts';
import { exit, fork } from '../kernel/fork.ts';
import { mmapIommufd } from '../kernel/iommufd-mmap.ts';
import { Kernel, KernelRoot } from '../kernel/kernel.ts';
import { createMemfd, mmapMemfd, truncateMemfd } from '../kernel/memfd.ts';
import { linux72 } from '../kernel/operations.ts';
import { createProcess, markCompound, mmap, mmapPrivate, munmap, Process } from '../kernel/process.ts';
import { testIoctl, type TestCommands } from '../kernel/selftest/commands.ts';
import { close, ioctl, ioctlUnknown, open, poll, read, write, type Commands } from '../kernel/syscalls.ts';
import { capabilitiesAfter } from './capability-text.ts';
import type { Outcome, Played, Player } from './compare.ts';
import { arguments_, type Call } from './ioctl-arguments.ts';
import { ProgramMemory } from './program-memory.ts';
import { testArguments, type TestCall } from './test-arguments.ts';
import { bytesOf, told } from './trace-bytes.ts';
import type { Accounting, TraceFields, TraceLine, TraceValue } from './trace-file.ts';
import { bitmapBytes, describeBuffer, describeStruct } from './user-buffers.ts';

/** The bitmap of a dirty query in the program's memory. */
interface Bitmap {
  readonly va: bigint;
  /** As much of it as can be read. */
  readonly bytes: Uint8Array;
  readonly writable: number;
  readonly isWhole: boolean;
}

const nothing: Outcome = { ret: 0, errno: null, out: {} };
const remarks = new Set(['PHASE', 'STEP']);
/** Where the recorded program begins. Below there is nothing but what it maps. */
const firstPrivate = 0x400000n;
/** Beside the memory of the recorded program: page tables. */
const spareBytes = 16 << 20;
const kernelBytes = 48 << 20;

/** The constant flags of memfd_create(2). */
const MFD_HUGETLB = 4;
const PollEvent = { IN: 1, OUT: 4 } as const;

const big = (value: TraceValue | undefined): bigint => BigInt((value ?? 0) as bigint | number);

export class SelftestPlayer implements Player {
  readonly #kernel: Kernel;
  readonly #processes = new Map<number, Ref<'Process'>>();
  readonly #fds = new Map<string, number>();
  readonly #memory: ProgramMemory;
  /** The last line of each process, by `seq`. */
  readonly #lastSeq = new Map<number, number>();
  readonly #children = new Map<number, number[]>();
  /** Where the last dirty query had its bitmap, if in a region. */
  #lastBitmap: bigint | null = null;
  /** Processes that were waited for and have calls of before still to come. */
  readonly #ending = new Set<number>();

  constructor(lines: readonly TraceLine[]) {
    const host = Host.create(ramBytesFor(lines), kernelBytes);
    MockDriver.boot(host);
    host.kernelRoot = KernelRoot.create(host.kernel);
    this.#kernel = new Kernel(host, linux72, new MockDriver(host));
    this.#memory = new ProgramMemory(this.#kernel);
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
    if (line.call === 'MEM') return this.#store(line.rest['writes'] as readonly TraceFields[]);
    if (line.call === 'CHECK') return this.#check(line.rest);
    const call = arguments_[line.call as keyof Commands];
    if (call !== undefined) return this.#ioctl(line, call as Call<keyof Commands>);
    const test = testArguments[line.call as keyof TestCommands];
    if (test !== undefined) return this.#test(line, test as TestCall<keyof TestCommands>);
    if (line.call.startsWith('IOMMU_TEST_OP')) return this.#test(line, noOperation as TestCall<keyof TestCommands>);
    try {
      if (line.call === 'READ') return this.#read(line);
      if (line.call === 'WRITE') return this.#write(line);
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
    const { memory, process } = this.#kernel;
    return { vm_pin_kb: Process.pinnedPages.peek(memory, process) * 4, vm_lck_kb: Process.lockedPages.peek(memory, process) * 4 };
  }

  #fd(name: string | undefined): number {
    return this.#fds.get(name ?? '') ?? -1;
  }

  #ioctl<N extends keyof Commands>(line: TraceLine, call: Call<N>): Outcome {
    const arg = call.read(line.in, (name) => this.#fd(name));
    describeStruct(line, arg);
    describeBuffer(this.#memory, line.call, line.in, arg);
    const bitmap = line.call === 'IOMMU_HWPT_GET_DIRTY_BITMAP' ? this.#findBitmap(line, arg as Commands['IOMMU_HWPT_GET_DIRTY_BITMAP']) : null;
    if (line.call === 'VFIO_IOMMU_GET_INFO') (arg as Commands['VFIO_IOMMU_GET_INFO']).bytes = bufferOf(line);
    let errno: string | null = null;
    let ret = 0;
    try {
      ret = ioctl(this.#kernel, this.#fd(line.fd), line.call as N, arg);
    } catch (error) {
      errno = nameOf(error);
    }
    if (bitmap !== null) this.#memory.write(bitmap.va, bitmap.bytes.subarray(0, bitmap.writable));
    const out = bitmap === null || bitmap.isWhole ? call.write(arg) : { bitmap: null };
    return { ...this.#answered(line, errno, out), ret: errno === null ? ret : -1 };
  }

  /** The bitmap of a dirty query that lies in a region, as it is there: it may be absent or read-only from some byte on. */
  #findBitmap(line: TraceLine, arg: Commands['IOMMU_HWPT_GET_DIRTY_BITMAP']): Bitmap | null {
    if (!isInRegion(line.in['data_at'])) return null;
    const needed = bitmapBytes(line.in);
    const va = big(line.in['data']);
    const bytes = new Uint8Array(arg.readableBytes ?? needed);
    this.#memory.read(va, bytes);
    this.#lastBitmap = va;
    arg.bitmap = bytes;
    return { va, bytes, writable: arg.writableBytes ?? needed, isWhole: bytes.length === needed };
  }

  /** What a probe found in its memory behind a query whose bitmap it could not read as a whole. */
  #check(rest: TraceFields): Played {
    const expected = rest['first_bitmap_byte'];
    if (this.#lastBitmap === null || typeof expected !== 'string') return { skip: 'nobody checks this yet' };
    const found = new Uint8Array(1);
    this.#memory.read(this.#lastBitmap, found);
    const got = told(found);
    return got === expected ? nothing : { differs: { field: 'first_bitmap_byte', expected, got: String(got) } };
  }

  #test<N extends keyof TestCommands>(line: TraceLine, call: TestCall<N>): Outcome {
    const arg = call.read(line.in, (name) => this.#fd(name));
    describeStruct(line, arg);
    describeBuffer(this.#memory, line.call, line.in, arg);
    const copies = line.call === 'IOMMU_TEST_ACCESS_RW';
    if (copies) this.#fillBuffer(line, arg as TestCommands['IOMMU_TEST_ACCESS_RW']);
    const before = copies ? this.#memory.contents() : [];
    let errno: string | null = null;
    let ret = 0;
    try {
      ret = testIoctl(this.#kernel, this.#fd(line.fd), line.call as N, arg);
    } catch (error) {
      errno = nameOf(error);
    }
    const out = { ...(line.in['id'] === undefined ? {} : { id: line.in['id'] }), ...call.write(arg) };
    if (!copies) return { ...this.#answered(line, errno, { ...out, ret }), ret: errno === null ? ret : -1 };
    const copy = arg as TestCommands['IOMMU_TEST_ACCESS_RW'];
    const isRead = (copy.flags & 1) === 0;
    if (isRead && isInRegion(line.in['uptr_at'])) this.#memory.write(big(line.in['uptr']), copy.buffer.subarray(0, copy.writableBytes));
    return this.#answered(line, errno, { ...out, data: told(copy.buffer), mem: this.#memory.changesSince(before) });
  }

  /** The buffer of a copy: what the recording shows of it, or what is in the program's region. */
  #fillBuffer({ in: input }: TraceLine, arg: TestCommands['IOMMU_TEST_ACCESS_RW']): void {
    if (arg.buffer.length > 0) return;
    arg.buffer = new Uint8Array(arg.length > 1n << 24n ? 0 : Number(arg.length));
    if (isInRegion(input['uptr_at'])) this.#memory.read(big(input['uptr']), arg.buffer.subarray(0, arg.readableBytes));
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
        this.#fds.set(String(out['fd']), createMemfd(this.#kernel, (Number(input['flags']) & MFD_HUGETLB) !== 0));
        return out;
      }
      case 'FTRUNCATE': {
        truncateMemfd(this.#kernel, this.#fd(fd), Number(input['length']));
        return {};
      }
      case 'UNKNOWN_IOCTL': {
        const address = big(input['arg']);
        const isAbsent = input['_badptr'] !== undefined || (address < firstPrivate && this.#memory.reachable(address, 4, false) < 4);
        const argument = isAbsent ? { argument: 'absent' as const } : {};
        return ioctlUnknown(this.#kernel, this.#fd(fd), Number(input['request']), argument);
      }
      // The container's command that iommufd does not have.
      case 'VFIO_IOMMU_DIRTY_PAGES': return ioctlUnknown(this.#kernel, this.#fd(fd), 0x3b75, {});
      case 'MMAP': return this.#mmap(input, out);
      case 'MUNMAP': {
        this.#unmap(big(input['addr']), big(input['length']));
        return {};
      }
      case 'CAP_SET': {
        const before = Process.capabilities.peek(this.#kernel.memory, this.#kernel.process);
        Process.capabilities.poke(this.#kernel.memory, this.#kernel.process, capabilitiesAfter(String(input['caps']), before));
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
    // Of nothing a recording may show either.
    const data = bytes.length === 0 && out['data'] === null ? null : told(bytes);
    return { ret: bytes.length, errno: null, out: { ...out, data }, acct: this.#accounting() };
  }

  /** What the program could not show, the kernel cannot read either. */
  #write({ in: input, fd, out = {} }: TraceLine): Outcome {
    const bytes = bytesOf(input['data']) ?? fail('EFAULT', 'the buffer cannot be read');
    return { ret: write(this.#kernel, this.#fd(fd), bytes), errno: null, out, acct: this.#accounting() };
  }

  #poll({ in: input, fd }: TraceLine): Outcome {
    const { readable, writable } = poll(this.#kernel, this.#fd(fd));
    const events = (readable ? PollEvent.IN : 0) | (writable ? PollEvent.OUT : 0);
    const found = events & Number(input['events']);
    return { ret: found === 0 ? 0 : 1, errno: null, out: { revents: BigInt(found) }, acct: this.#accounting() };
  }

  #mmap(input: TraceFields, out: TraceFields): TraceFields {
    const kernel = this.#kernel;
    const bytes = Number(input['length']);
    const flags = String(input['flags']);
    const at = out['addr'] === undefined ? null : big(out['addr']);
    if (at !== null && flags.includes('FIXED')) this.#unmap(at, BigInt(bytes));
    const start = this.#mapAt(input, bytes, flags, at);
    if (flags.includes('HUGETLB')) markCompound(kernel, kernel.process, start);
    this.#memory.add(String(out['region']), start, bytes);
    return { ...out, addr: start };
  }

  #mapAt(input: TraceFields, bytes: number, flags: string, at: bigint | null): bigint {
    const kernel = this.#kernel;
    const protection = String(input['prot']);
    const writable = protection.includes('w');
    const file = String(input['fd'] ?? '');
    const offset = big(input['offset']);
    const shared = flags.includes('SHARED');
    if (file.startsWith('iommu')) {
      return mmapIommufd(kernel, this.#fd(file), { offset, lengthBytes: bytes, shared, writable, executable: protection.includes('x'), at });
    }
    if (file.startsWith('memfd') && shared) return mmapMemfd(kernel, this.#fd(file), Number(offset / 4096n), bytes, writable, at);
    // Any other file is read by nobody; a private mapping has pages of its own.
    return shared ? mmap(kernel, kernel.process, bytes, writable, at) : mmapPrivate(kernel, kernel.process, bytes, writable, at);
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
    this.#children.set(parent, [...(this.#children.get(parent) ?? []), child]);
    this.#processes.set(child, fork(this.#kernel, child + 1));
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

  #end(number: number): void {
    this.#enter(number);
    exit(this.#kernel);
  }

  #store(writes: readonly TraceFields[]): Outcome {
    this.#memory.store(writes);
    return nothing;
  }
}

/** An operation that nobody has: the kernel says so before it looks at its fields. */
const noOperation: Pick<TestCall<'IOMMU_TEST_DMABUF_GET'>, 'read' | 'write'> = { read: () => ({ length: 0 }), write: () => ({}) };

/** Of an `Errno`, as a recording names it; anything else is thrown on. */
function nameOf(error: unknown): string {
  if (!(error instanceof Errno)) throw error;
  // The recorder knew no name for this one.
  return error.name === 'EBADE' ? 'E52' : error.name;
}

/** Whether a pointer leads to a region of the program, as `<field>_at` says. */
const isInRegion = (at: TraceValue | undefined): boolean => typeof at === 'object' && at !== null;

/** What the program had in its buffer, seen where the kernel writes nothing: behind the first capability, or at the end. */
function bufferOf({ in: input, out = {} }: TraceLine): Uint8Array {
  const raw = bytesOf(out['raw'] ?? '') ?? new Uint8Array(0);
  return new Uint8Array(Number(input['argsz'])).fill(raw[36] ?? raw.at(-1) ?? 0);
}

/** Twice what the recorded program maps, for what stays pinned, and room for page tables. */
function ramBytesFor(lines: readonly TraceLine[]): number {
  let bytes = spareBytes;
  for (const { call, in: input } of lines) if (call === 'MMAP' || call === 'FTRUNCATE') bytes += Number(input['length'] ?? 0);
  return bytes;
}
