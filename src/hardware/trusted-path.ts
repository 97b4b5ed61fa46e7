/**
 * How a request of a function with TDISP becomes a frame: which of its two contexts counts, the translation, and the ownership check.
 *
 * It stands before the unit's own translation, whose results it takes over: `frame`, `root` and `hit` are told by the unit in both cases.
 * A translation of the trusted tables is tagged with the request's T, so that neither hits what was checked for the other.
 */
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { pageBytes, type Frame, type Memory } from '#hostmem/memory';
import { NULL, type Ref } from '#hostmem/object';
import { PageTable, WalkResult } from '#hostmem/page-table';
import { DmaFlags, ownedAccess } from './events.ts';
import { PciFunction } from './function.ts';
import { IotlbView } from './iotlb.ts';
import { Claim, judgeAccess, TrustReason } from './ownership.ts';
import { Tdi, TdiState } from './tdisp.ts';
import type { TranslationUnit } from './translation-unit.ts';
import { cBit, splitAt, TBitPolicy, trustedFormat, TrustedContext, TrustedRoot } from './trusted-context.ts';

/** Where a cached translation keeps the claim of its entry, above the permissions. */
const claimShift = 2;

export class TrustedPath {
  /** Makes an interface in RUN send T = 0 all the same, as it may. */
  untrusted = false;
  readonly #kernel: Memory;
  readonly #frames: Frames;
  readonly #unit: TranslationUnit;
  readonly #tdi: Ref<'Tdi'>;
  readonly #context: Ref<'TrustedContext'>;
  readonly #rid: number;
  readonly #iotlb: IotlbView;
  readonly #checksHits: boolean;
  readonly #tables: PageTable;
  readonly #walk = new WalkResult();
  /** Of the last request. */
  #trusted = false;

  private constructor(host: Host, trustedRoot: Ref<'TrustedRoot'>, unit: TranslationUnit, pciFunction: Ref<'PciFunction'>) {
    const kernel = host.kernel;
    this.#kernel = kernel;
    this.#frames = host.frames;
    this.#unit = unit;
    this.#tdi = PciFunction.tdi.peek(kernel, pciFunction);
    this.#context = Tdi.context.peek(kernel, this.#tdi);
    this.#rid = PciFunction.rid.peek(kernel, pciFunction);
    this.#iotlb = new IotlbView(kernel, TrustedRoot.iotlb.peek(kernel, trustedRoot));
    this.#checksHits = TrustedRoot.checksHits.peek(kernel, trustedRoot) !== 0;
    this.#tables = new PageTable(host.ram, host.frames, trustedFormat);
  }

  /** Of a function on a host with a TSM (`trustedRoot`), null elsewhere. */
  static of(host: Host, trustedRoot: Ref<'TrustedRoot'>, unit: TranslationUnit, pciFunction: Ref<'PciFunction'>): TrustedPath | null {
    return trustedRoot === NULL ? null : new TrustedPath(host, trustedRoot, unit, pciFunction);
  }

  /** As the unit's `translate`; also a `TrustReason`. */
  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const kernel = this.#kernel;
    const unit = this.#unit;
    unit.frame = unit.root = 0 as Frame;
    unit.hit = false;
    this.#trusted = false;
    if (Tdi.busMaster.load(kernel, this.#tdi) === 0) return TrustReason.BUS_MASTER_OFF;
    this.#trusted = !this.untrusted && Tdi.state.load(kernel, this.#tdi) === TdiState.RUN;
    const guest = TrustedContext.guest.load(kernel, this.#context);
    if (this.#trusted && guest === 0) return TrustReason.NO_CONTEXT;
    const policy = TrustedContext.policy.peek(kernel, this.#context);
    const isShared = guest !== 0 && (policy === TBitPolicy.ONE_TABLE || policy === TBitPolicy.C_BIT);
    return this.#trusted || isShared ? this.#throughTrusted(guest, policy, iovaHigh, iovaLow, access) : this.#throughHost(sourceId, iovaHigh, iovaLow, access, epoch);
  }

  /** Tells of the transaction's end, while it is still in flight and after its data have moved. */
  report(write: boolean, iovaHigh: number, iovaLow: number, reason: number): void {
    if (reason !== 0) return;
    const frame = this.#unit.frame;
    const word = this.#rid | (write ? DmaFlags.WRITE : 0);
    ownedAccess.emit(this.#kernel, word, this.#trusted ? 1 : 0, iovaHigh, iovaLow & -pageBytes, frame, this.#frames.peekVisibility(frame));
  }

  /** A hit was looked at before it was cached; a unit that caches what it has checked does not look again. */
  #throughHost(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const unit = this.#unit;
    const reason = unit.translate(sourceId, iovaHigh, iovaLow, access, epoch);
    return reason !== 0 || (unit.hit && !this.#checksHits) ? reason : this.#check(unit.frame, 0, Claim.NOTHING);
  }

  #throughTrusted(guest: number, policy: number, iovaHigh: number, iovaLow: number, access: number): number {
    const unit = this.#unit;
    const iotlb = this.#iotlb;
    const epoch = iotlb.epoch();
    const number = TrustedContext.number.peek(this.#kernel, this.#context);
    const tag = this.#trusted ? 1 : 0;
    if (!iotlb.lookup(number, iovaHigh, iovaLow, tag) || (iotlb.permissions & access) !== access)
      return this.#walkAndFill(guest, policy, number, tag, iovaHigh, iovaLow, access, epoch);
    unit.hit = true;
    unit.root = iotlb.root;
    unit.frame = iotlb.frame;
    return this.#checksHits ? this.#check(iotlb.frame, guest, (iotlb.permissions >>> claimShift) as Claim) : 0;
  }

  #walkAndFill(guest: number, policy: number, number: number, tag: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const unit = this.#unit;
    const walk = this.#walk;
    unit.root = TrustedContext.root.peek(this.#kernel, this.#context);
    if (this.#tables.walk(unit.root, iovaHigh, iovaLow, access, walk) !== 0) return TrustReason.NOT_MAPPED;
    unit.frame = walk.frame;
    const claim = claimOf(policy, iovaHigh, iovaLow, walk.entryHigh);
    const refused = this.#check(walk.frame, guest, claim);
    if (refused === 0) this.#iotlb.fill(number, iovaHigh, iovaLow, walk.frame, walk.permissions | (claim << claimShift), unit.root, epoch, tag);
    return refused;
  }

  #check(frame: Frame, guest: number, claim: Claim): number {
    return frame === 0 || frame >= this.#frames.count ? 0 : judgeAccess(this.#frames.readVisibility(frame), this.#trusted, guest, claim);
  }
}

function claimOf(policy: number, iovaHigh: number, iovaLow: number, entryHigh: number): Claim {
  if (policy === TBitPolicy.SPLIT) return iovaHigh !== 0 || iovaLow >>> 0 >= splitAt ? Claim.SHARED : Claim.PRIVATE;
  if (policy === TBitPolicy.C_BIT) return (entryHigh & cBit) !== 0 ? Claim.PRIVATE : Claim.SHARED;
  return Claim.NOTHING;
}
