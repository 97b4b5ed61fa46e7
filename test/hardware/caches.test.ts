/** The caches of a unit, whichever vendor's, against the same unit without them: outside an open invalidation window both answer alike. */
import type { VtdUnitOptions } from '#src/hardware/machine';
import { PciFunction } from '#src/hardware/function';
import { IommuUnit } from '#src/hardware/unit';
import { WalkCache } from '#src/hardware/walk-cache';
import { fill } from '#hostmem/atomics';
import { hpaOf, type Frame } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { WalkResult } from '#hostmem/page-walk';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { smallRiscv, smallVendor } from '../drivers/small-vendor.ts';
import { firstStageUnit, scalableUnit, smallMachine } from './small-machine.ts';

const units: [string, VtdUnitOptions][] = [['legacy', {}], ['scalable, second stage', scalableUnit], ['scalable, first stage', firstStageUnit]];

/** A machine of three functions behind one unit, with its caches or without. */
type Make = (caches: 'on' | 'off') => ReturnType<typeof ofVtd> | ReturnType<typeof ofVendor> | ReturnType<typeof ofRiscv>;
const functions = [{ rid: 0x108 }, { rid: 0x110 }, { rid: 0x111 }];
function ofVtd(unit: VtdUnitOptions, caches: 'on' | 'off') {
  const small = smallMachine({ ...unit, caches }, functions);
  return { ...small, translation: small.machine.units[0]!.translation };
}
function ofVendor(vendor: 'amd' | 'smmuv3', caches: 'on' | 'off') {
  const small = smallVendor(vendor, { functions, caches });
  return { ...small, translation: [...small.machine.amdUnits, ...small.machine.smmuUnits][0]!.translation };
}
function ofRiscv(caches: 'on' | 'off', ats = false) {
  const small = smallRiscv(functions.map((each) => ({ ...each, ats })), { caches, ats });
  // What a function keeps is a cache too.
  if (caches === 'on' && ats) for (const each of small.functions) small.driver.enableAts(each);
  return { ...small, translation: small.machine.riscvUnits[0]!.translation };
}
const machines: [string, Make][] = [
  ...units.map(([name, unit]): [string, Make] => [`VT-d, ${name}`, (caches) => ofVtd(unit, caches)]),
  ...(['amd', 'smmuv3'] as const).map((vendor): [string, Make] => [vendor, (caches) => ofVendor(vendor, caches)]),
  ['RISC-V', ofRiscv],
  ['RISC-V with ATS', (caches) => ofRiscv(caches, true)],
];

/** Two regions of 2 MiB in one of 1 GiB, and one in the next; a few pages in each. */
const page = fc.tuple(fc.constantFrom(0x40000, 0x40200, 0x80000), fc.nat(5)).map(([region, offset]) => region + offset);
const domain = fc.nat(1);
const device = fc.nat(2);
const step = fc.oneof(
  { weight: 9, arbitrary: fc.record({ kind: fc.constant('map' as const), page, domain, permissions: fc.integer({ min: 1, max: 3 }), pages: fc.constantFrom(1, 1, 2) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('map' as const), page: fc.constantFrom(0x40000, 0x40200), domain, permissions: fc.constant(3), pages: fc.constant(512) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('unmap' as const), page, domain, pages: fc.constantFrom(1, 3, 512), sync: fc.constantFrom(true, true, false) }) },
  { weight: 14, arbitrary: fc.record({ kind: fc.constant('dma' as const), page, write: fc.boolean(), device }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('attach' as const), device, to: fc.constantFrom('first', 'first', 'second', 'second', 'blocked', 'identity') }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('renew' as const), domain }) },
);
type Program = (typeof step extends fc.Arbitrary<infer S> ? S : never)[];

/** One program on one unit. Its three devices may share a domain, and so its domain id. */
class Player {
  readonly small: ReturnType<Make>;
  readonly ends: string[] = [];
  hits = 0;
  readonly #domains: Ref<'IommuDomain'>[];
  readonly #attached: string[] = [];
  /** Pages whose invalidation is outstanding, by domain. */
  readonly #open: Set<number>[] = [new Set(), new Set()];

  constructor(small: ReturnType<Make>) {
    this.small = small;
    this.#domains = [0, 1].map(() => this.#newDomain());
    ['first', 'first', 'second'].forEach((to, index) => this.#attach(index, to));
  }

  #newDomain(): Ref<'IommuDomain'> {
    return this.small.driver.allocPagingDomain(this.small.functions[0]!, 0);
  }

  play(program: Program): string[] {
    // A large leaf maps the upper half of RAM.
    const frames = Array.from({ length: 8 }, () => this.small.host.frames.allocate(16));
    for (const [index, op] of program.entries()) {
      if (op.kind === 'map') this.#map(op.domain, op.page, op.pages === 512 ? (512 as Frame) : frames[index % 7]!, op.permissions, op.pages);
      else if (op.kind === 'unmap') this.#unmap(op.domain, op.page, op.pages, op.sync);
      else if (op.kind === 'attach') this.#attach(op.device, op.to);
      else if (op.kind === 'renew') this.#renew(op.domain);
      else this.#dma(op.device, op.page, op.write);
    }
    return this.ends;
  }

  /** A page whose invalidation is outstanding is not mapped again: nobody may expect one of the two. */
  #map(which: number, first: number, frame: Frame, permissions: number, pages: number): void {
    for (let one = first; one < first + pages; one++) if (this.#open[which]!.has(one)) return;
    this.small.driver.map(this.#domains[which]!, first >>> 20, first << 12, frame, permissions, pages);
  }

  #unmap(which: number, first: number, pages: number, isSynced: boolean): void {
    const of = this.#domains[which]!;
    const open = this.#open[which]!;
    const walk = new WalkResult();
    for (let one = first; one < first + pages; one++) if (this.small.driver.translate(of, 0, one << 12, walk) === 0) open.add(one);
    // The range may end inside a large leaf, which goes as a whole.
    const last = first + pages - 1;
    if (this.small.driver.translate(of, 0, last << 12, walk) === 0 && walk.level === 2) for (let one = last & ~511; one < (last | 511) + 1; one++) open.add(one);
    this.small.driver.unmap(of, 0, first << 12, pages);
    if (!isSynced) return;
    const all = [...open];
    if (all.length > 0) this.small.driver.sync(of, 0, Math.min(...all) << 12, Math.max(...all) - Math.min(...all) + 1, true);
    open.clear();
  }

  #attach(which: number, to: string): void {
    const { driver, functions } = this.small;
    const named: Record<string, Ref<'IommuDomain'>> = { first: this.#domains[0]!, second: this.#domains[1]!, blocked: driver.blockedDomain, identity: driver.identityDomain };
    this.#attached[which] = to;
    expect(driver.attach(named[to]!, functions[which]!)).toBe(0);
  }

  /** The domain goes, with its tables, and another takes its place: frames and domain ids are used again. */
  #renew(which: number): void {
    const name = which === 0 ? 'first' : 'second';
    const members = [0, 1, 2].filter((index) => this.#attached[index] === name);
    for (const index of members) this.#attach(index, 'blocked');
    this.small.driver.freeDomain(this.#domains[which]!);
    this.#domains[which] = this.#newDomain();
    this.#open[which]!.clear();
    for (const index of members) this.#attach(index, name);
  }

  #dma(which: number, at: number, write: boolean): void {
    const { host, engines, translation, functions } = this.small;
    const isOpen = this.#attached[which] === 'first' ? this.#open[0]!.has(at) : this.#attached[which] === 'second' && this.#open[1]!.has(at);
    const before = PciFunction.hits.peek(host.kernel, functions[which]!);
    const reason = write ? engines[which]!.write(0, at << 12, 4) : engines[which]!.read(0, at << 12, 4);
    // A translation request of ATS faults as the read that it is, whatever it is for.
    const refused = PciFunction.atc.peek(host.kernel, functions[which]!) === NULL ? `reason ${reason}` : 'refused';
    const end = reason === 0 ? `frame ${translation.frame}` : refused;
    this.ends.push(isOpen ? 'open' : end);
    this.hits += PciFunction.hits.peek(host.kernel, functions[which]!) - before;
  }
}

test.each(machines)('outside open windows a unit with caches answers as one without, %s', (_name, make) => {
  let hits = 0;
  fc.assert(
    fc.property(fc.array(step, { minLength: 60, maxLength: 250 }), (program) => {
      const cached = new Player(make('on'));
      expect(cached.play(program)).toEqual(new Player(make('off')).play(program));
      hits += cached.hits;
    }),
    { numRuns: 100, seed: 7 },
  );
  expect(hits).toBeGreaterThan(40);
});

test.each(units)('a stale answer inside an open window is seen, %s', (_name, unit) => {
  const { driver, functions, engines, host } = smallMachine(unit);
  const own = driver.allocPagingDomain(functions[0]!, 0);
  for (const each of functions) expect(driver.attach(own, each)).toBe(0);
  driver.map(own, 0, 0x5000, host.frames.allocate(16), 3);
  expect(engines[0]!.read(0, 0x5000, 4)).toBe(0);
  driver.unmap(own, 0, 0x5000, 1);
  // Both devices have the domain's id: what one made the unit cache, the other hits.
  expect(engines[1]!.read(0, 0x5000, 4)).toBe(0);
  driver.sync(own, 0, 0x5000, 1, true);
  expect(engines[1]!.read(0, 0x5000, 4)).not.toBe(0);
});

test('a walk begins at the table that the walk cache knows: an upper entry that changed unseen matters only without the cache, or after a non-leaf flush', () => {
  const outcome = (unit: VtdUnitOptions, leafOnly: boolean): number => {
    const { driver, functions, engines, host } = smallMachine({ ...unit, iotlb: false });
    const own = driver.allocPagingDomain(functions[0]!, 0);
    driver.attach(own, functions[0]!);
    driver.map(own, 0, 0x5000, host.frames.allocate(16), 3);
    driver.map(own, 0, 0x6000, host.frames.allocate(16), 3);
    expect(engines[0]!.read(0, 0x5000, 4)).toBe(0);
    const walk = new WalkResult();
    driver.translate(own, 0, 0x40005000, walk);
    // The root table, which the walk of a region without tables ends in, is emptied.
    fill(host.ram, hpaOf((walk.entryAt >>> 12) as Frame), 4096, 0);
    driver.sync(own, 0, 0, 1, leafOnly);
    return engines[0]!.read(0, 0x6000, 4);
  };
  expect(outcome({}, true)).toBe(0);
  expect(outcome({}, false)).not.toBe(0);
  expect(outcome({ walkCache: false }, true)).not.toBe(0);
});

test('a table found by a walk is not remembered when an invalidation began since', () => {
  const { machine, host, unit } = smallMachine();
  const { iotlb } = machine.unit(unit).translation;
  const cache = new WalkCache(host.kernel, IommuUnit.walkCache.peek(host.kernel, unit), iotlb.at);
  const epoch = iotlb.epoch();
  iotlb.invalidateDomain(77);
  cache.fill(2, 0, 0x5000, 0, 9 as Frame, 1, 3, epoch);
  expect(cache.lookup(2, 0, 0x5000, 0)).toBe(false);
  cache.fill(2, 0, 0x5000, 0, 9 as Frame, 1, 3, iotlb.epoch());
  expect([cache.lookup(2, 0, 0x1f_f000, 0), cache.table, cache.level]).toEqual([true, 9, 1]);
  expect(cache.lookup(3, 0, 0x5000, 0)).toBe(false);
});
