/**
 * Plays a recording of `traces/vfio` to the model: the recorded machine is built, every call is made on this thread, every
 * probe is a DMA through the unit, every race is run on threads. What the model answered is for `compare.ts` to judge.
 */
import { peek, poke } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import type { DmaEngine } from '../hardware/dma-engine.ts';
import { Machine } from '../hardware/machine.ts';
import { Errno } from '../kernel/errno.ts';
import { mmap, munmap, Process, userAddress } from '../kernel/process.ts';
import { close, ioctl, open, type Commands } from '../kernel/syscalls.ts';
import type { VfioAttach, VfioBind } from '../kernel/vfio.ts';
import type { GroupGetDeviceFd, GroupSetContainer } from '../kernel/vfio-group.ts';
import type { RaceReport } from '../task.ts';
import type { BuiltProcess } from '../built-process.ts';
import type { World } from '../world.ts';
import type { FieldDifference, Outcome, Played, Player, Probe } from './compare.ts';
import type { MakePlayer } from './conform.ts';
import { arguments_, type Call } from './ioctl-arguments.ts';
import { ProgramMemory } from './program-memory.ts';
import { ProgramPages } from './program-pages.ts';
import { runRace } from './race.ts';
import { recordedDevices, recordedMachine, setupOf, type Setup } from './recorded-machine.ts';
import { SelftestPlayer } from './selftest-player.ts';
import type { Accounting, TraceFields, TraceLine, TraceValue } from './trace-file.ts';
import { describeBuffer, describeStruct } from './user-buffers.ts';

/** A label of the recording: which pages of the process an IOAS maps at the two addresses that probes use. */
interface Label {
  readonly name: string;
  readonly ioasId: number;
  readonly srcIova: bigint;
  readonly dstIova: bigint;
  readonly tag: string;
  /** Where they are in RAM, once mapped. */
  src: number | null;
  dst: number | null;
}

interface Region {
  readonly isMemory: boolean;
}

const nothing: Outcome = { ret: 0, errno: null, out: {} };
/** Lines that tell the reader something and ask nothing of the kernel. */
const remarks = new Set(['PHASE', 'STEP', 'MMIO_READY', 'GROUP_SET_CONTAINER', 'GROUP_GET_DEVICE_FD']);
/** Rounds of a thread in a RACE, pairs of a DMA_DURING_REPLACE, as recorded (GROUP_STEPS 56, 70). */
const raceRounds = 400;
const racePairs = 60;
const raceBytes = 64;

const big = (value: TraceValue | undefined): bigint => BigInt(value as bigint);
const differs = (field: string, expected: string, got: string): { differs: FieldDifference } => ({ differs: { field, expected, got } });

export class VfioPlayer implements Player {
  readonly #world: World;
  readonly #machine: Machine;
  readonly #pages: ProgramPages;
  readonly #memory: ProgramMemory;
  readonly #processes = new Map<number, BuiltProcess>();
  readonly #fds = new Map<string, number>();
  /** The descriptor of a device by its name, as last opened. */
  readonly #deviceFds = new Map<string, number>();
  readonly #regions = new Map<string, Region>();
  readonly #labels: Label[] = [];
  /** VT-d's log numbers why it refuses; what AMD's says is not compared. */
  readonly #tellsReasons: boolean;
  readonly #engines = new Map<string, DmaEngine>();
  #topology: TraceFields = {};
  #hwInfo: Readonly<Record<string, unknown>> = {};
  /**
   * After a race nobody knows where the group is, only that all its members see the same: what the first probe saw, or '' before
   * it. Null when it is known.
   */
  #afterRace: string | null = null;

  constructor(setup: Setup) {
    this.#tellsReasons = setup.iommu !== 'amd';
    this.#world = recordedMachine(setup);
    this.#machine = new Machine(this.#world.host);
    this.#pages = new ProgramPages(this.#world.host.ram);
    this.#memory = new ProgramMemory(this.#world.kernel);
  }

  play(line: TraceLine): Played | Promise<Played> {
    if (remarks.has(line.call)) return nothing;
    this.#enter(line.proc);
    switch (line.call) {
      case 'TOPOLOGY': {
        this.#topology = line.rest;
        return nothing;
      }
      case 'IOAS_LABEL': return this.#label(line.rest);
      case 'PROBE': return this.#probe(line.rest['dma'] as TraceFields);
      case 'DMA': return { ...nothing, probe: this.#dma(line.rest['dma'] as TraceFields) };
      case 'CHECK': return this.#check(line.rest);
      case 'HW_INFO': return this.#compareHwInfo(line.rest);
      case 'RACE': return this.#race(line);
      case 'DMA_DURING_REPLACE': return this.#dmaDuringReplace(line.rest);
      case 'RAW_ATTACH': return this.#rawAttach();
      default: return this.#call(line);
    }
  }

  #call(line: TraceLine): Played {
    const call = arguments_[line.call as keyof Commands];
    if (call !== undefined) return this.#ioctl(line, call as Call<keyof Commands>);
    try {
      const out = this.#systemCall(line);
      return out === null ? { skip: `nobody plays ${line.call} yet` } : { ret: 0, errno: null, out, acct: this.#accounting() };
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      return { ret: -1, errno: error.name, out: line.call === 'OPEN' ? { fd: null, rawfd: -1 } : {}, acct: this.#accounting() };
    }
  }

  #enter(number: number): void {
    let process = this.#processes.get(number);
    if (process === undefined) this.#processes.set(number, (process = this.#world.process(`process ${number}`)));
    this.#world.kernel.enter(process.ref);
  }

  #accounting(): Accounting {
    const { memory, process } = this.#world.kernel;
    return { vm_pin_kb: Process.pinnedPages.peek(memory, process) * 4, vm_lck_kb: Process.lockedPages.peek(memory, process) * 4 };
  }

  #fd(name: string | undefined): number {
    return this.#fds.get(name ?? '') ?? -1;
  }

  /** What the kernel wrote is read back from the argument, also when the call fails. */
  #ioctl<N extends keyof Commands>(line: TraceLine, { read, write }: Call<N>): Outcome {
    const arg = read(line.in, (name) => this.#fd(name));
    describeStruct(line, arg);
    this.#fillIn(line, arg);
    describeBuffer(this.#memory, line.call, line.in, arg);
    let errno: string | null = null;
    try {
      ioctl(this.#world.kernel, this.#fd(line.fd), line.call as N, arg);
      this.#noteSuccess(line, arg);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      errno = error.name;
    }
    const ret = line.call === 'VFIO_GROUP_GET_DEVICE_FD' ? (arg as GroupGetDeviceFd).outFd : 0;
    const out = write(arg);
    if (line.call === 'IOMMU_GET_HW_INFO') this.#hwInfo = out;
    return { ret: errno === null ? ret : -1, errno, out: { ...out, ...namesOf(line) }, acct: this.#accounting() };
  }

  /** What is in no field of the recorded struct: the token, a read-only argument, and what pointers of the group's calls led to. */
  #fillIn(line: TraceLine, arg: object): void {
    const { token_uuid_ptr: token } = line.in;
    if (token !== undefined) (arg as VfioBind).token = big(token);
    // Nothing but an argument that cannot be written ends an attach so (CONFIRMED, K3).
    if (line.call === 'VFIO_DEVICE_ATTACH_IOMMUFD_PT' && line.errno === 'EFAULT') (arg as VfioAttach).argument ??= 'read-only';
    if (line.call === 'VFIO_GROUP_SET_CONTAINER') (arg as GroupSetContainer).fd = this.#fds.get('iommu1') ?? -1;
    if (line.call === 'VFIO_GROUP_GET_DEVICE_FD') (arg as GroupGetDeviceFd).name = String((this.#topology['A'] as TraceFields)['bdf']);
  }

  #noteSuccess(line: TraceLine, arg: object): void {
    if (line.call === 'IOMMU_IOAS_MAP') this.#noteMapping(line.in);
    if (line.call === 'IOMMU_FAULT_QUEUE_ALLOC') this.#fds.set(String(line.out?.['out_fault_fd_name']), (arg as { outFaultFd: number }).outFaultFd);
    if (line.call.startsWith('VFIO_DEVICE_') && line.call.endsWith('_PT')) this.#afterRace = null;
  }

  #systemCall({ call, in: input, out = {}, fd }: TraceLine): Readonly<Record<string, unknown>> | null {
    switch (call) {
      case 'OPEN': return this.#open(String(input['path']), out);
      case 'CLOSE': {
        close(this.#world.kernel, this.#fd(fd));
        return {};
      }
      case 'MMAP': return this.#mmap(input, out);
      case 'MUNMAP': return this.#munmap(input);
      default: return null;
    }
  }

  #open(path: string, out: TraceFields): Readonly<Record<string, unknown>> {
    this.#takeDescriptorsBelow(Number(out['rawfd']));
    const opened = open(this.#world.kernel, path);
    this.#fds.set(String(out['fd']), opened);
    const device = recordedDevices[Number(/vfio(\d+)$/.exec(path)?.[1] ?? -1)];
    if (device !== undefined) this.#deviceFds.set(device, opened);
    return { fd: out['fd'], rawfd: opened };
  }

  /** The recorded program holds files of its own (its log), so that its descriptors are higher. */
  #takeDescriptorsBelow(rawfd: number): void {
    const { kernel } = this.#world;
    let taken = open(kernel, '/dev/iommu');
    while (taken < rawfd) taken = open(kernel, '/dev/iommu');
    close(kernel, taken);
  }

  #mmap(input: TraceFields, out: TraceFields): TraceFields {
    const { kernel } = this.#world;
    const length = Number(input['length']);
    const isMemory = input['fd'] === null;
    const start = big(out['addr']);
    if (isMemory) {
      if (String(input['flags']).includes('FIXED')) this.#unmapIfMapped(start, BigInt(length));
      mmap(kernel, kernel.process, length, String(input['prot']).includes('w'), start);
      for (let offset = 0; offset < length; offset += 4096) this.#pages.add(userAddress(kernel, kernel.process, start + BigInt(offset)));
    }
    this.#regions.set(String(out['region']), { isMemory });
    return out;
  }

  #munmap(input: TraceFields): TraceFields {
    const region = this.#regions.get(String((input['at'] as TraceFields)['region']));
    if (region?.isMemory !== false) this.#unmapIfMapped(big(input['addr']), big(input['length']));
    return {};
  }

  /** To Linux it is no error that nothing is mapped there. */
  #unmapIfMapped(start: bigint, length: bigint): void {
    const { kernel } = this.#world;
    try {
      munmap(kernel, kernel.process, start, length);
    } catch (error) {
      if (!(error instanceof Errno && error.name === 'EINVAL')) throw error;
    }
  }

  #label(rest: TraceFields): Outcome {
    this.#labels.push({
      name: String(rest['label']), ioasId: Number(rest['ioas_id']), srcIova: big(rest['src_iova']), dstIova: big(rest['dst_iova']),
      tag: String(rest['src_tag']), src: null, dst: null,
    });
    return nothing;
  }

  /** What is first mapped at a label's two addresses are its pages, and the recorded program has written the tag to the one. */
  #noteMapping(input: TraceFields): void {
    const { kernel } = this.#world;
    // An id may have been used before, for an IOAS that is gone.
    const label = this.#labels.findLast(({ ioasId }) => ioasId === input['ioas_id']);
    const isSrc = label?.srcIova === input['iova'] && label!.src === null;
    const isDst = label?.dstIova === input['iova'] && label!.dst === null;
    if (!isSrc && !isDst) return;
    const at = userAddress(kernel, kernel.process, big(input['user_va']));
    if (isDst) label!.dst = at;
    else {
      label!.src = at;
      this.#pages.writeTag(at, label!.tag);
    }
  }

  #function(name: string): Ref<'PciFunction'> {
    return this.#world.directory[name] as Ref<'PciFunction'>;
  }

  #engine(name: TraceValue | undefined): DmaEngine {
    const key = String(name);
    let engine = this.#engines.get(key);
    if (engine === undefined) this.#engines.set(key, (engine = this.#machine.dma(this.#function(key))));
    return engine;
  }

  /** A read into the device's buffer, then a write of it, as the recorded program's probe. */
  #probe(dma: TraceFields): Played {
    const engine = this.#engine(dma['dev']);
    const length = Number(dma['len']);
    const readIova = big(dma['read_iova']);
    const readFault = transfer(engine, 'read', readIova, length);
    const read = readFault === 0 ? this.#nameOfBuffer(engine, readIova, length, String(dma['read'])) : 'fault';
    const { fault: writeFault, landed } = this.#findLanding(engine, big(dma['write_iova']), length);
    const write = landed[0]?.replace(/\.dst\+0x0$/, '') ?? (writeFault === 0 ? 'lost' : 'fault');
    if (this.#afterRace !== null) return this.#compareWithMate(`${read}, ${write}`, dma);
    return { ...nothing, probe: { read, write, ...this.#reasons(readFault, writeFault) } };
  }

  #reasons(...faults: readonly number[]): Pick<Probe, 'reasons'> {
    return this.#tellsReasons ? { reasons: faults.filter((reason) => reason !== 0) } : {};
  }

  #compareWithMate(seen: string, dma: TraceFields): Played {
    const before = this.#afterRace!;
    this.#afterRace = seen;
    if (before !== '' && before !== seen) return differs('dma after the race', before, seen);
    return { ...nothing, probe: { read: String(dma['read']), write: String(dma['write']) } };
  }

  #nameOfBuffer(engine: DmaEngine, iova: bigint, length: number, recorded: string): string {
    const words = Array.from({ length: length / 4 }, (_, i) => engine.bufferWord(i));
    const contents = this.#pages.recognise(words, iova);
    if ('name' in contents) return contents.name;
    const mayBeLearnt = recorded !== 'fault' && this.#labels.every(({ tag }) => tag !== recorded);
    return mayBeLearnt && this.#pages.learn(contents.unnamed, recorded) ? recorded : 'a page of no name';
  }

  #dma(dma: TraceFields): Probe {
    const engine = this.#engine(dma['dev']);
    const iova = big(dma['iova']);
    const length = Number(dma['len']);
    if (dma['op'] === 'read') {
      const fault = transfer(engine, 'read', iova, length);
      return { result: fault === 0 ? 'ok' : 'fault', ...this.#reasons(fault) };
    }
    const { fault, landed } = this.#findLanding(engine, iova, length);
    const result = landed.length > 0 ? 'ok' : fault === 0 ? 'nothing-written' : 'fault';
    return { result, landed_in: landed, ...this.#reasons(fault) };
  }

  /** Writes a value that no page has, sees which lines of which result page received it, and puts page and buffer back. */
  #findLanding(engine: DmaEngine, iova: bigint, length: number): { fault: number; landed: string[] } {
    const { host } = this.#world;
    const nonce = 0x6e6f6e63;
    const kept = Array.from({ length: length / 4 }, (_, i) => engine.bufferWord(i));
    const pages = this.#labels.flatMap(({ name, dst }) => (dst === null ? [] : [{ name, at: dst }]));
    const before = pages.map(({ at }) => Array.from({ length: 1024 }, (_, i) => peek(host.ram, at + i * 4)));
    engine.fillBuffer(nonce);
    const fault = transfer(engine, 'write', iova, length);
    const landed = pages.flatMap(({ name, at }, index) => {
      const offset = before[index]!.findIndex((word, i) => peek(host.ram, at + i * 4) !== word);
      before[index]!.forEach((word, i) => poke(host.ram, at + i * 4, word));
      return offset < 0 ? [] : [`${name}.dst+0x${((offset * 4) & ~63).toString(16)}`];
    });
    kept.forEach((word, i) => engine.setBufferWord(i, word));
    return { fault, landed };
  }

  /** `..._head`: how a page begins at that moment. Other keys tell of memory that the model does not have. */
  #check(rest: TraceFields): Played {
    for (const [key, head] of Object.entries(rest)) {
      if (!key.endsWith('page_head') || typeof head !== 'string') return { skip: `nobody checks ${key} yet` };
      if (!this.#pages.isIntact(head)) return differs(key, head, 'something else');
    }
    return nothing;
  }

  /** What the recorded program decoded from GET_HW_INFO, of VT-d. */
  #compareHwInfo({ cap, ecap, capabilities, type }: TraceFields): Played {
    // Of another vendor: the call itself has been compared.
    if (cap === undefined || ecap === undefined) return nothing;
    const words = [cap, ecap].map((word) => [...big(word).toString(16).padStart(16, '0').matchAll(/../g)].reverse().join(''));
    const recorded = { data: words.join(''), out_capabilities: String(big(capabilities)), in_or_out_data_type: String(type) };
    const answered = { ...this.#hwInfo, data: String(this.#hwInfo['data']).slice(16) };
    for (const [field, value] of Object.entries(recorded)) {
      const got = String(answered[field as keyof typeof answered]);
      if (got !== value) return differs(field, value, got);
    }
    return nothing;
  }

  /** The argument ends where the next page is absent. */
  #rawAttach(): Outcome {
    const fd = this.#deviceFds.get(String((this.#topology['A'] as TraceFields)['name'])) ?? -1;
    try {
      ioctl(this.#world.kernel, fd, 'VFIO_DEVICE_ATTACH_IOMMUFD_PT', { argsz: 16, flags: 0, ptId: 0, argument: 'absent' });
      return nothing;
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      return { ...nothing, ret: -1 };
    }
  }

  /** Two threads replace, or replace and detach, A and B at random. Only how the calls may end is judged, and the probes behind it. */
  async #race({ seq, rest }: TraceLine): Promise<Played> {
    const detaches = rest['mode'] !== 'replace';
    const ptIds = this.#labels.map(({ ioasId }) => ioasId);
    const works = this.#racers().map((fd, index) => ({ kind: 'random replaces' as const, fd, ptIds, rounds: raceRounds, detaches, seed: seq * 2 + index }));
    const reports = await runRace(this.#world.host.buffers, this.#world.kernel.process, works);
    this.#afterRace = '';
    const allowed = detaches ? ['ok', 'EINVAL'] : ['ok'];
    for (const { attaches, detaches: left } of reports) {
      const wrong = Object.keys(attaches).find((errno) => !allowed.includes(errno)) ?? Object.keys(left).find((errno) => errno !== 'ok');
      if (wrong !== undefined) return differs('errno in the race', allowed.join(' or '), wrong);
    }
    return nothing;
  }

  /** The descriptors of A and B. */
  #racers(): number[] {
    return ['A', 'B'].map((who) => this.#deviceFds.get(String((this.#topology[who] as TraceFields)['name'])) ?? -1);
  }

  /** A is replaced between two IOASes without a pause while a device does DMA: it may fault, and meets no page but theirs. */
  async #dmaDuringReplace({ dma_dev: device }: TraceFields): Promise<Played> {
    const { host, kernel } = this.#world;
    const [first, second] = this.#labels as [Label, Label];
    const pages = [first, second].map(({ name, src, dst }) => ({ name, tag: [0, 1, 2].map((i) => peek(host.ram, src! + i * 4)), dst: dst! }));
    const reports = await runRace(host.buffers, kernel.process, [
      { kind: 'endless replaces', fd: this.#racers()[0]!, ptIds: [first.ioasId, second.ioasId] },
      {
        kind: 'dma', function: this.#function(String(device)), pairs: racePairs, lengthBytes: raceBytes, readIova: first.srcIova, writeIova: first.dstIova,
        pages,
      },
    ]);
    this.#afterRace = '';
    return strayIn(reports) ?? nothing;
  }
}

function strayIn([replaces, dma]: readonly RaceReport[]): Played | null {
  const failed = Object.keys(replaces!.attaches).find((errno) => errno !== 'ok');
  if (failed !== undefined) return differs('errno of a replace', 'success', failed);
  for (const [direction, ends] of Object.entries({ reads: dma!.reads, writes: dma!.writes })) {
    if (ends['other'] !== undefined) return differs(`${direction}.other`, '0', String(ends['other']));
  }
  return null;
}

/** Logical names of descriptors are the recording's own. */
const namesOf = ({ out = {} }: TraceLine): TraceFields =>
  Object.fromEntries(Object.entries(out).filter(([name]) => name.endsWith('_name')));

function transfer(engine: DmaEngine, direction: 'read' | 'write', iova: bigint, length: number): number {
  return engine[direction](Number(BigInt.asIntN(32, iova >> 32n)), Number(BigInt.asIntN(32, iova)), length);
}

/** A player for one recording. */
export const makePlayer: MakePlayer = (file, lines) => {
  const setup = setupOf(file);
  // One that is called otherwise is known by what it asks for.
  const isMock = setup.iommu === 'mock' || (lines.some(({ call }) => call.startsWith('IOMMU_TEST_')) && !lines.some(({ call }) => call === 'TOPOLOGY'));
  return isMock ? new SelftestPlayer(lines) : new VfioPlayer(setup);
};
