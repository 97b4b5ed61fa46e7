/**
 * Records in shared memory: named, labelled, guarded fields.
 *
 * `struct` lays fields over a byte address (a cache line, a register file); `object` lays them over a heap block and
 * takes a `Ref`, checked at every access. A field is one access, one point, and allocates nothing. A guarded field
 * (`u32.under('lock')`, `u32.under('group.mutex')`) is no point while its lock is held; without it the access is a point and is
 * reported (L2). Free runs do not check guards.
 */
import * as atomics from './atomics.ts';
import { label } from './labels.ts';
import type { Memory } from './memory.ts';
import { addressIfLive, addressOf, allocate, blockAt, free, headerBytes, keepTypesafe, NULL, tryAllocate, typeNumber, type Ref } from './object.ts';
import { big, high, low } from './u64.ts';

/** Where a field landed. `type` is 0 in a struct. */
export interface Place {
  readonly record: string;
  readonly field: string;
  readonly label: number;
  readonly offsetBytes: number;
  readonly type: number;
}

/** A kind of field: how many words, and what stands for it in the record. */
export interface FieldKind<A> {
  readonly words: number;
  /** Begins a cache line of the record. */
  readonly beginsLine?: true;
  bind(place: Place): A;
}

/** Of the machines that this runs on. */
const lineBytes = 64;

type Fields = Record<string, FieldKind<unknown>>;
type Bound<F extends Fields> = { readonly [K in keyof F]: F[K] extends FieldKind<infer A> ? A : never };

export type StructType<F extends Fields> = Bound<F> & { readonly structName: string; readonly sizeBytes: number };

export type ObjectType<N extends string, F extends Fields> = StructType<F> & {
  readonly structName: N;
  /** A new zeroed object. */
  create(memory: Memory): Ref<N>;
  /** A new zeroed object, or `NULL` when the heap is full. */
  tryCreate(memory: Memory): Ref<N>;
  /** Frees it; later accesses through old references throw `UseAfterFree`. */
  free(memory: Memory, ref: Ref<N>): void;
  /** Throws `UseAfterFree` unless the reference is live and of this type. */
  check(memory: Memory, ref: Ref<N>): void;
  /** For who looks without a lock: the object's byte address, 0 unless it is live and of this type at this moment. */
  addressIfLive(memory: Memory, ref: Ref<N>): number;
};

/** Field offsets by record name, for guards that name a field of another record. */
const layouts = new Map<string, ReadonlyMap<string, number>>();
const referents = new Map<string, string>();
/** Every guarded word that this thread's modules declare. */
const guarded: GuardedWord[] = [];

/** Finds the lock of every guarded word declared so far; returns how many there are. Throws at the first guard that names no field. */
export function resolveGuards(): number {
  for (const word of guarded) word.resolveGuard();
  return guarded.length;
}
/** Names of object types by their number. */
const recordNames = new Map<number, string>();

/**
 * Base of all fields: knows its word. Every kind of field has an `address` of its own, the same in all of them: V8 learns the shapes of
 * `this` by function, and one that all kinds share costs five times an access.
 */
export class Field {
  readonly label: number;
  readonly offsetBytes: number;
  readonly type: number;
  readonly name: string;

  constructor(place: Place) {
    this.label = place.label;
    this.offsetBytes = place.offsetBytes;
    this.type = place.type;
    this.name = `${place.record}.${place.field}`;
  }

  /** The byte address of the field's first word: `at` is the record's address, or a reference when it has a type. */
  address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }

  /**
   * Looks at the reference again: in a controlled run the object may have been freed while its point was waited at. Called
   * behind every access that is one, so that the access itself is the one that is seen.
   */
  recheck(memory: Memory, at: number): void {
    if (memory.control !== null && this.type !== 0) addressOf(memory, at, this.type);
  }

  /** Reads the first word as no point: oracles, assertions, and what the caller owns. */
  peek(memory: Memory, at: number): number {
    return memory.words[this.address(memory, at) >>> 2]!;
  }
}

/** One unguarded word, in both grades. */
export class Word<V extends number = number> extends Field {
  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }
  load(memory: Memory, at: number): V {
    const value = atomics.load(memory, this.address(memory, at), this.label) as V;
    this.recheck(memory, at);
    return value;
  }
  store(memory: Memory, at: number, value: V): void {
    atomics.store(memory, this.address(memory, at), value, this.label);
    this.recheck(memory, at);
  }
  /** Returns the value before. */
  add(memory: Memory, at: number, delta: number): number {
    const before = atomics.add(memory, this.address(memory, at), delta, this.label);
    this.recheck(memory, at);
    return before;
  }
  /** Adds unless the word is 0; returns the value before. */
  addUnlessZero(memory: Memory, at: number, delta: number): number {
    const before = atomics.addUnlessZero(memory, this.address(memory, at), delta, this.label);
    this.recheck(memory, at);
    return before;
  }
  /** Returns the value before. */
  exchange(memory: Memory, at: number, value: V): V {
    const before = atomics.exchange(memory, this.address(memory, at), value, this.label) as V;
    this.recheck(memory, at);
    return before;
  }
  /** Returns the value found. */
  compareExchange(memory: Memory, at: number, expected: V, replacement: V): V {
    const found = atomics.compareExchange(memory, this.address(memory, at), expected, replacement, this.label) as V;
    this.recheck(memory, at);
    return found;
  }
  read(memory: Memory, at: number): V {
    const value = atomics.read(memory, this.address(memory, at), this.label) as V;
    this.recheck(memory, at);
    return value;
  }
  write(memory: Memory, at: number, value: V): void {
    atomics.write(memory, this.address(memory, at), value, this.label);
    this.recheck(memory, at);
  }
  override peek(memory: Memory, at: number): V {
    return memory.words[this.address(memory, at) >>> 2]! as V;
  }
  /** Writes as no point: before the record is published, or by its only owner. */
  poke(memory: Memory, at: number, value: V): void {
    atomics.poke(memory, this.address(memory, at), value);
  }
}

/** One word that belongs to a lock. */
export class GuardedWord<V extends number = number> extends Field {
  readonly #guard: string;
  readonly #record: string;
  #via = -1;
  #lockOffset = -1;

  constructor(place: Place, guard: string) {
    super(place);
    this.#guard = guard;
    this.#record = place.record;
    guarded.push(this as unknown as GuardedWord);
  }

  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }

  read(memory: Memory, at: number): V {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control === null) return memory.words[address >>> 2]! as V;
    if (control.holds(memory, this.lockAddress(memory, address))) return memory.words[address >>> 2]! as V;
    control.unguarded(memory, address, this.label);
    const value = atomics.read(memory, address, this.label) as V;
    this.recheck(memory, at);
    return value;
  }

  write(memory: Memory, at: number, value: V): void {
    const address = this.address(memory, at);
    const control = memory.control;
    if (control === null) {
      memory.words[address >>> 2] = value;
    } else if (control.holds(memory, this.lockAddress(memory, address))) {
      atomics.poke(memory, address, value);
      control.wroteGuarded(memory, address, this.label, value);
    } else {
      control.unguarded(memory, address, this.label);
      atomics.write(memory, address, value, this.label);
      this.recheck(memory, at);
    }
  }

  override peek(memory: Memory, at: number): V {
    return memory.words[this.address(memory, at) >>> 2]! as V;
  }
  /** Writes as no point: before the record is published. */
  poke(memory: Memory, at: number, value: V): void {
    atomics.poke(memory, this.address(memory, at), value);
  }

  /** The guard's word, given this field's address. Throws when the guard names no field. */
  private lockAddress(memory: Memory, address: number): number {
    if (this.#lockOffset < 0) this.resolveGuard();
    const base = address - this.offsetBytes;
    if (this.#via < 0) return base + this.#lockOffset;
    return (atomics.peek(memory, base + this.#via) & 0xfffff) * 64 + this.#lockOffset;
  }

  /** Finds the lock's offset; called at the first access and by `resolveGuards`. */
  resolveGuard(): void {
    const [first, second] = this.#guard.split('.');
    const via = second === undefined ? -1 : offsetOf(this.#record, first!);
    const record = second === undefined ? this.#record : referents.get(`${this.#record}.${first}`);
    if (record === undefined) throw new Error(`${this.name}: guard '${this.#guard}' goes through '${first}', which is no ref`);
    this.#via = via;
    this.#lockOffset = offsetOf(record, second ?? first!);
  }
}

/** A 64-bit value in two words; `read` returns the low one and leaves the high one in `memory.high`. */
export class Word64 extends Field {
  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }
  read(memory: Memory, at: number): number {
    return atomics.read64(memory, this.address(memory, at), this.label);
  }
  write(memory: Memory, at: number, high: number, low: number): void {
    atomics.write64(memory, this.address(memory, at), high, low, this.label);
  }
  peekBig(memory: Memory, at: number): bigint {
    const address = this.address(memory, at);
    return big(atomics.peek(memory, address + 4), atomics.peek(memory, address));
  }
  peekHigh(memory: Memory, at: number): number {
    return atomics.peek(memory, this.address(memory, at) + 4);
  }
  poke(memory: Memory, at: number, high: number, low: number): void {
    const address = this.address(memory, at);
    atomics.poke(memory, address + 4, high);
    atomics.poke(memory, address, low);
  }
  pokeBig(memory: Memory, at: number, value: bigint): void {
    this.poke(memory, at, high(value), low(value));
  }
}

/** `count` words in a row, owned or guarded by the caller's lock: reached by index, as no point. */
export class WordArray<V extends number = number> extends Field {
  readonly count: number;
  constructor(place: Place, count: number) {
    super(place);
    this.count = count;
  }
  override address(memory: Memory, at: number): number {
    return (this.type === 0 ? at : addressOf(memory, at, this.type)) + this.offsetBytes;
  }
  get(memory: Memory, at: number, index: number): V {
    return atomics.peek(memory, this.elementAddress(memory, at, index)) as V;
  }
  set(memory: Memory, at: number, index: number, value: V): void {
    atomics.poke(memory, this.elementAddress(memory, at, index), value);
  }
  elementAddress(memory: Memory, at: number, index: number): number {
    if (index < 0 || index >= this.count) throw new Error(`${this.name}: index ${index} is outside 0..${this.count - 1}`);
    return this.address(memory, at) + index * 4;
  }
}

/** A kind of one word. Named by the declarations of every record. */
export interface WordKind<V extends number> extends FieldKind<Word<V>> {
  /** The same word, guarded by a lock of the same record, or `ref.lock` of the record that a ref field names. */
  under(guard: string): FieldKind<GuardedWord<V>>;
}

function wordKind<V extends number>(referent: string | null): WordKind<V> {
  const note = (place: Place): void => {
    if (referent !== null) referents.set(`${place.record}.${place.field}`, referent);
  };
  return {
    words: 1,
    bind(place) {
      note(place);
      return new Word<V>(place);
    },
    under: (guard) => ({
      words: 1,
      bind(place) {
        note(place);
        return new GuardedWord<V>(place, guard);
      },
    }),
  };
}

/** A 32-bit word (signed as JavaScript reads it; use `>>> 0` where it matters). */
export const u32: WordKind<number> = wordKind(null);
/** A reference to an object of the named type. */
export const ref = <T extends string>(name: T): WordKind<Ref<T>> => wordKind<Ref<T>>(name);
/** A 64-bit value. */
export const u64: FieldKind<Word64> = { words: 2, bind: (place) => new Word64(place) };
/** An inline array of words. */
export const words = <V extends number = number>(count: number): FieldKind<WordArray<V>> => ({
  words: count,
  bind: (place) => new WordArray<V>(place, count),
});

/**
 * The same field at the beginning of a cache line, which those behind it share: words that several threads write, apart from those that they all read
 * (`____cacheline_aligned_in_smp`). A block of the heap begins a line, and its header, which every access looks at, is on the first.
 */
export const onNewLine = <A>(kind: FieldKind<A>): FieldKind<A> => ({ ...kind, beginsLine: true });

/** A record at a byte address that is a multiple of 8. */
export function struct<F extends Fields>(name: string, fields: F): StructType<F> {
  const { bound, sizeBytes } = layOut(name, fields, 0, 0);
  return Object.freeze({ ...bound, structName: name, sizeBytes }) as unknown as StructType<F>;
}

/** A record in a heap block, reached through a `Ref`. */
export function object<N extends string, F extends Fields>(name: N, fields: F): ObjectType<N, F> {
  const type = newType(name);
  return objectOf(type, 0, layOut(name, fields, headerBytes, type), name);
}

function newType(name: string): number {
  const type = typeNumber(name);
  const known = recordNames.get(type);
  if (known !== undefined) throw new Error(`object types '${known}' and '${name}' have the same number; rename one`);
  recordNames.set(type, name);
  return type;
}

/** `own` is the number of its own type, where `type` is that of the record that it begins as; else 0. */
function objectOf<N extends string, F extends Fields>(type: number, own: number, { bound, sizeBytes }: Layout<F>, name: N): ObjectType<N, F> {
  return Object.freeze({
    ...bound,
    structName: name,
    sizeBytes,
    create: (memory: Memory) => allocate(memory, type, sizeBytes - headerBytes, own) as Ref<N>,
    tryCreate: (memory: Memory) => (isRefused(memory, name) ? NULL : tryAllocate(memory, type, sizeBytes - headerBytes, own)) as Ref<N>,
    free: (memory: Memory, ref: Ref<N>) => free(memory, ref, type),
    check: (memory: Memory, ref: Ref<N>) => void addressOf(memory, ref, type),
    addressIfLive: (memory: Memory, ref: Ref<N>) => addressIfLive(memory, ref, type),
  }) as unknown as ObjectType<N, F>;
}

/**
 * As `object`, and a block of it is of this type as long as the host lives (`SLAB_TYPESAFE_BY_RCU`): who holds on to an old reference without a lock writes to a
 * word of another object of the type at worst, and sees by its value that it is. One type can be so.
 */
export function typesafeObject<N extends string, F extends Fields>(name: N, fields: F): ObjectType<N, F> {
  const made = object(name, fields);
  keepTypesafe(typeNumber(name));
  return made;
}

/**
 * A record that begins as another does: a reference to it is one to that too, and is not told from one at an access. Who has one of those knows by its fields
 * which it is.
 */
export function extension<N extends string, F extends Fields>(first: ObjectType<string, Fields>, name: N, fields: F): ObjectType<N, F> {
  const type = typeNumber(first.structName);
  const made = objectOf(type, newType(name), layOut(name, fields, first.sizeBytes, type), name);
  layouts.set(name, new Map([...layouts.get(first.structName)!, ...layouts.get(name)!]));
  return made;
}

const isRefused = (memory: Memory, name: string): boolean => memory.faults !== null && memory.faults.refuses(`a ${name}`);

interface Layout<F extends Fields> {
  readonly bound: Bound<F>;
  readonly sizeBytes: number;
}

function layOut<F extends Fields>(name: string, fields: F, start: number, type: number): Layout<F> {
  if (layouts.has(name)) throw new Error(`a record named '${name}' exists already`);
  const bound: Record<string, unknown> = {};
  const offsets = new Map<string, number>();
  let offsetBytes = start;
  for (const [field, kind] of Object.entries(fields)) {
    // 64-bit values; and arrays that are moved as a whole, which V8 copies byte by byte when one side is at 4 and the other at 0 modulo 8.
    if (kind.words % 2 === 0) offsetBytes = (offsetBytes + 7) & ~7;
    if (kind.beginsLine) offsetBytes = (offsetBytes + lineBytes - 1) & -lineBytes;
    offsets.set(field, offsetBytes);
    bound[field] = kind.bind({ record: name, field, label: label(`${name}.${field}`), offsetBytes, type });
    offsetBytes += kind.words * 4;
  }
  layouts.set(name, offsets);
  return { bound: bound as Bound<F>, sizeBytes: (offsetBytes + 7) & ~7 };
}

/** The name of an object type by the number in block headers; null where no module that is loaded here declares one. */
export const nameOfType = (type: number): string | null => recordNames.get(type) ?? null;

/** `Record.field` of a word in the heap of kernel memory, or null where no object that is known here has one. */
export function nameOfWord(memory: Memory, at: number): string | null {
  const block = blockAt(memory, at);
  const record = block === null ? undefined : recordNames.get(block.type);
  if (block === null || record === undefined) return null;
  let name: string | null = null;
  for (const [field, offset] of layouts.get(record)!) if (offset <= at - block.at) name = `${record}.${field}`;
  return name;
}

function offsetOf(record: string, field: string): number {
  const offset = layouts.get(record)?.get(field);
  if (offset === undefined) throw new Error(`record '${record}' has no field '${field}'`);
  return offset;
}
