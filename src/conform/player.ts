/**
 * Plays a recording of `traces/vfio` to the model: the recorded machine is built, every call is made on this thread, every
 * probe is a DMA through the unit. What the model answered is for `compare.ts` to judge.
 */
import { basename } from 'node:path';
import { peek, poke } from '#hostmem/atomics';
import type { Ref } from '#hostmem/object';
import type { DmaEngine } from '../hardware/dma-engine.ts';
import { Machine } from '../hardware/machine.ts';
import { Errno } from '../kernel/errno.ts';
import { mmap, munmap, Process, userAddress } from '../kernel/process.ts';
import { close, ioctl, open, type Commands } from '../kernel/syscalls.ts';
import type { BuiltProcess } from '../world.ts';
import { World } from '../world.ts';
import type { Outcome, Player, Probe } from './compare.ts';
import type { MakePlayer } from './conform.ts';
import { arguments_, type Call } from './ioctl-arguments.ts';
import type { Accounting, TraceFields, TraceLine, TraceValue } from './trace-file.ts';

/** A label of the recording: which pages of the process an IOAS maps at the two addresses that probes use. */
interface Label {
  readonly name: string;
  readonly ioasId: number;
  readonly srcIova: bigint;
  readonly dstIova: bigint;
  readonly tag: string;
  /** User addresses, once mapped. */
  src: bigint | null;
  dst: bigint | null;
}

interface Region {
  readonly process: number;
  readonly start: bigint;
  readonly length: bigint;
  readonly isMemory: boolean;
}

const nothing: Outcome = { ret: 0, errno: null, out: {} };
/** Calls that tell the reader something and ask nothing of the kernel. */
const remarks = new Set(['PHASE', 'STEP', 'TOPOLOGY', 'MMIO_READY']);
const tagLineBytes = 64;

export class VfioPlayer implements Player {
  readonly #world: World;
  readonly #machine: Machine;
  readonly #processes = new Map<number, BuiltProcess>();
  readonly #fds = new Map<string, number>();
  readonly #regions = new Map<string, Region>();
  readonly #labels: Label[] = [];
  readonly #engines = new Map<string, DmaEngine>();

  constructor(file: string) {
    this.#world = new World({ iommu: /^scalable\.|\.vtd-scalable\./.test(basename(file)) ? 'vtd-scalable' : 'vtd-legacy' });
    // TRACES.md: a multi-function device 00:05.0 to .2, and a lone device 00:06.0.
    this.#world.group('g1d1', 'g1d2', 'g1d3');
    this.#world.group('lone1');
    this.#machine = new Machine(this.#world.host);
  }

  play(line: TraceLine): Outcome | { readonly skip: string } {
    if (remarks.has(line.call)) return nothing;
    this.#enter(line.proc);
    if (line.call === 'IOAS_LABEL') return this.#label(line.rest);
    if (line.call === 'PROBE') return { ...nothing, probe: this.#probe(line.rest['dma'] as TraceFields) };
    if (line.call === 'DMA') return { ...nothing, probe: this.#dma(line.rest['dma'] as TraceFields) };
    const call = arguments_[line.call as keyof Commands];
    if (call !== undefined) return this.#ioctl(line, call as Call<keyof Commands>);
    try {
      const out = this.#systemCall(line);
      return out === null ? { skip: `nobody plays ${line.call} yet` } : { ret: 0, errno: null, out, acct: this.#accounting() };
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      return { ret: -1, errno: error.name, out: {}, acct: this.#accounting() };
    }
  }

  #enter(number: number): void {
    let process = this.#processes.get(number);
    if (process === undefined) this.#processes.set(number, (process = this.#world.process(`process ${number}`)));
    this.#world.kernel.enter(process.ref);
  }

  #accounting(): Accounting {
    const pages = Process.pinnedPages.peek(this.#world.kernel.memory, this.#world.kernel.process);
    return { vm_pin_kb: pages * 4, vm_lck_kb: 0 };
  }

  #fd(name: string | undefined): number {
    return this.#fds.get(name ?? '') ?? -1;
  }

  /** What the kernel wrote is read back from the argument, also when the call fails. */
  #ioctl<N extends keyof Commands>(line: TraceLine, { read, write }: Call<N>): Outcome {
    const arg = read(line.in, (name) => this.#fd(name));
    let errno: string | null = null;
    try {
      ioctl(this.#world.kernel, this.#fd(line.fd), line.call as N, arg);
      if (line.call === 'IOMMU_IOAS_MAP') this.#noteMapping(line.in);
    } catch (error) {
      if (!(error instanceof Errno)) throw error;
      errno = error.name;
    }
    return { ret: errno === null ? 0 : -1, errno, out: write(arg), acct: this.#accounting() };
  }

  #systemCall({ call, in: input, out = {}, fd }: TraceLine): Readonly<Record<string, unknown>> | null {
    const { kernel } = this.#world;
    switch (call) {
      case 'OPEN': {
        this.#fds.set(String(out['fd']), open(kernel, String(input['path'])));
        return out;
      }
      case 'CLOSE': {
        close(kernel, this.#fd(fd));
        return {};
      }
      case 'MMAP': return this.#mmap(input, out);
      case 'MUNMAP': return this.#munmap(input);
      default: return null;
    }
  }

  #mmap(input: TraceFields, out: TraceFields): TraceFields {
    const { kernel } = this.#world;
    const length = BigInt(input['length'] as bigint);
    const isMemory = input['fd'] === null;
    const start = BigInt(out['addr'] as bigint);
    if (isMemory) mmap(kernel, kernel.process, Number(length), String(input['prot']).includes('w'), start);
    this.#regions.set(String(out['region']), { process: kernel.processNumber, start, length, isMemory });
    return out;
  }

  #munmap(input: TraceFields): TraceFields {
    const { kernel } = this.#world;
    const region = this.#regions.get(String((input['at'] as TraceFields)['region']));
    if (region?.isMemory !== false) munmap(kernel, kernel.process, BigInt(input['addr'] as bigint), BigInt(input['length'] as bigint));
    return {};
  }

  #label(rest: TraceFields): Outcome {
    this.#labels.push({
      name: String(rest['label']),
      ioasId: Number(rest['ioas_id']),
      srcIova: BigInt(rest['src_iova'] as bigint),
      dstIova: BigInt(rest['dst_iova'] as bigint),
      tag: String(rest['src_tag']),
      src: null,
      dst: null,
    });
    return nothing;
  }

  /** The recorded program fills the page that it maps at a label's source with the label's tag. */
  #noteMapping(input: TraceFields): void {
    const userVa = BigInt(input['user_va'] as bigint);
    // An id may have been used before, for an IOAS that is gone.
    const label = this.#labels.findLast(({ ioasId }) => ioasId === input['ioas_id']);
    if (label?.srcIova === input['iova']) {
      label!.src = userVa;
      this.#fillWithTag(label!);
    }
    if (label?.dstIova === input['iova']) label!.dst = userVa;
  }

  #fillWithTag({ tag, src }: Label): void {
    const { kernel, host } = this.#world;
    const at = userAddress(kernel, kernel.process, src!);
    for (let offset = 0; offset < 4096; offset += tagLineBytes) {
      const text = `${tag} off=${offset.toString(16).padStart(4, '0')} `.padEnd(tagLineBytes, '.');
      for (let i = 0; i < tagLineBytes; i += 4) poke(host.ram, at + offset + i, wordOf(text, i));
    }
  }

  #engine(name: TraceValue | undefined): DmaEngine {
    const key = String(name);
    let engine = this.#engines.get(key);
    if (engine === undefined) this.#engines.set(key, (engine = this.#machine.dma(this.#world.directory[key] as Ref<'PciFunction'>)));
    return engine;
  }

  /** A read into the device's buffer, then a write of it, as the recorded program's probe. */
  #probe(dma: TraceFields): Probe {
    const engine = this.#engine(dma['dev']);
    const length = Number(dma['len']);
    const readFault = transfer(engine, 'read', BigInt(dma['read_iova'] as bigint), length);
    const { fault: writeFault, landed } = this.#findLanding(engine, BigInt(dma['write_iova'] as bigint), length);
    return {
      read: readFault === 0 ? this.#tagInBuffer(engine) : 'fault',
      write: writeFault === 0 ? (landed[0]?.replace(/\.dst\+0x0$/, '') ?? 'lost') : 'fault',
      reasons: [readFault, writeFault].filter((reason) => reason !== 0),
    };
  }

  #dma(dma: TraceFields): Probe {
    const engine = this.#engine(dma['dev']);
    const iova = BigInt(dma['iova'] as bigint);
    const length = Number(dma['len']);
    if (dma['op'] === 'read') return { result: transfer(engine, 'read', iova, length) === 0 ? 'ok' : 'fault' };
    const { landed } = this.#findLanding(engine, iova, length);
    return { result: transfer(engine, 'write', iova, length) === 0 ? 'ok' : 'fault', landed_in: landed };
  }

  #tagInBuffer(engine: DmaEngine): string {
    const label = this.#labels.find(({ tag }) => [0, 4, 8].every((i) => engine.bufferWord(i / 4) === wordOf(`${tag} off=0000`, i)));
    return label?.tag ?? (engine.bufferWord(0) === 0 ? 'zeros' : 'unknown');
  }

  /** Writes a value that no page has, sees which result page received it, and puts page and buffer back. */
  #findLanding(engine: DmaEngine, iova: bigint, length: number): { fault: number; landed: string[] } {
    const { kernel, host } = this.#world;
    const nonce = 0x6e6f6e63;
    const kept = Array.from({ length: length / 4 }, (_, i) => engine.bufferWord(i));
    const pages = this.#labels.filter(({ dst }) => dst !== null).map((label) => ({ label, at: userAddress(kernel, kernel.process, label.dst!) }));
    const before = pages.map(({ at }) => Array.from({ length: 1024 }, (_, i) => peek(host.ram, at + i * 4)));
    engine.fillBuffer(nonce);
    const fault = transfer(engine, 'write', iova, length);
    const landed = pages.flatMap(({ label, at }, index) => {
      const offset = before[index]!.findIndex((word, i) => peek(host.ram, at + i * 4) !== word);
      before[index]!.forEach((word, i) => poke(host.ram, at + i * 4, word));
      return offset < 0 ? [] : [`${label.name}.dst+0x${(offset * 4).toString(16)}`];
    });
    kept.forEach((word, i) => engine.setBufferWord(i, word));
    return { fault, landed };
  }
}

function transfer(engine: DmaEngine, direction: 'read' | 'write', iova: bigint, length: number): number {
  return engine[direction](Number(BigInt.asIntN(32, iova >> 32n)), Number(BigInt.asIntN(32, iova)), length);
}

/** Four characters of a text as a little-endian word. */
const wordOf = (text: string, at: number): number =>
  text.charCodeAt(at) | (text.charCodeAt(at + 1) << 8) | (text.charCodeAt(at + 2) << 16) | (text.charCodeAt(at + 3) << 24);


/** A player for one recording. */
export const makePlayer: MakePlayer = (file) => new VfioPlayer(file);
