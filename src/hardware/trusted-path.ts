/**
 * How a request of a function with TDISP becomes a frame: which of its two contexts counts, the translation, and the ownership check.
 *
 * It stands before the unit's own translation, which is one of the two. A translation of the trusted tables is tagged with the request's T,
 * so that neither hits what was checked for the other. A function's own cache (ATS) is not modelled beside it.
 */
import type { Frames } from '#hostmem/frames';
import type { Host } from '#hostmem/host';
import { pageBytes, type Frame, type Memory } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { PageWalker, WalkResult } from '#hostmem/page-walk';
import { DmaFlags, ownedAccess } from './events.ts';
import { PciFunction } from './function.ts';
import { IotlbView } from './iotlb.ts';
import { Claim, judgeAccess, TrustReason } from './ownership.ts';
import { Tdi, TdiState } from './tdisp.ts';
import type { Translator } from './translator.ts';
import { cBit, splitAt, TBitPolicy, trustedFormat, TrustedContext, TrustedRoot } from './trusted-context.ts';
import { IommuUnit } from './unit.ts';

/** Where a cached translation keeps the claim of its entry, above the permissions. */
const claimShift = 2;

export class TrustedPath implements Translator {
  frame = 0 as Frame;
  root = 0 as Frame;
  hit = false;
  /** Of the host's own context. */
  readonly iotlb: IotlbView;
  /** Makes an interface in RUN send T = 0 all the same, as it may. */
  untrusted = false;
  readonly #kernel: Memory;
  readonly #frames: Frames;
  readonly #unit: Translator;
  readonly #tdi: Ref<'Tdi'>;
  readonly #context: Ref<'TrustedContext'>;
  readonly #rid: number;
  readonly #trustedIotlb: IotlbView;
  readonly #checksHits: boolean;
  readonly #reachesShared: boolean;
  readonly #tables: PageWalker;
  readonly #walk = new WalkResult();
  /** Of the last request. */
  #trusted = false;

  /** Of a function that has a device interface; `unit` is its translation by the host's tables. */
  constructor(host: Host, unit: Translator, pciFunction: Ref<'PciFunction'>) {
    const kernel = host.kernel;
    this.#kernel = kernel;
    this.#frames = host.frames;
    this.#unit = unit;
    this.iotlb = unit.iotlb;
    this.#tdi = PciFunction.tdi.peek(kernel, pciFunction);
    this.#context = Tdi.context.peek(kernel, this.#tdi);
    this.#rid = PciFunction.rid.peek(kernel, pciFunction);
    const trustedRoot = IommuUnit.trustedRoot.peek(kernel, PciFunction.unit.peek(kernel, pciFunction));
    this.#trustedIotlb = new IotlbView(kernel, TrustedRoot.iotlb.peek(kernel, trustedRoot));
    this.#checksHits = TrustedRoot.checksHits.peek(kernel, trustedRoot) !== 0;
    this.#reachesShared = TrustedRoot.reachesShared.peek(kernel, trustedRoot) !== 0;
    this.#tables = new PageWalker(host.ram, trustedFormat);
  }

  /** As the unit's `translate`; also a `TrustReason`. */
  translate(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const kernel = this.#kernel;
    this.frame = this.root = 0 as Frame;
    this.hit = this.#trusted = false;
    if (Tdi.busMaster.load(kernel, this.#tdi) === 0) return TrustReason.BUS_MASTER_OFF;
    this.#trusted = !this.untrusted && Tdi.state.load(kernel, this.#tdi) === TdiState.RUN;
    const guest = TrustedContext.guest.load(kernel, this.#context);
    if (this.#trusted && guest === 0) return TrustReason.NO_CONTEXT;
    const policy = TrustedContext.policy.peek(kernel, this.#context);
    const isOneTable = guest !== 0 && (policy === TBitPolicy.ONE_TABLE || policy === TBitPolicy.C_BIT);
    if (this.#trusted || isOneTable) return this.#throughTrusted(guest, policy, iovaHigh, iovaLow, access);
    return this.#throughHost(sourceId, iovaHigh, iovaLow, access, epoch);
  }

  /** Tells of the transaction's end, while it is still in flight and after its data have moved. */
  report(write: boolean, iovaHigh: number, iovaLow: number, reason: number): void {
    if (reason !== 0 || this.frame === 0) return;
    const frame = this.frame;
    const word = this.#rid | (write ? DmaFlags.WRITE : 0);
    ownedAccess.emit(this.#kernel, word, this.#trusted ? 1 : 0, iovaHigh, iovaLow & -pageBytes, frame, this.#frames.peekVisibility(frame));
  }

  /** A hit was looked at before it was cached; a unit that caches what it has checked does not look again. */
  #throughHost(sourceId: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const unit = this.#unit;
    const reason = unit.translate(sourceId, iovaHigh, iovaLow, access, epoch);
    this.frame = unit.frame;
    this.root = unit.root;
    this.hit = unit.hit;
    return reason !== 0 || (unit.hit && !this.#checksHits) ? reason : this.#check(unit.frame, 0, Claim.NOTHING);
  }

  #throughTrusted(guest: number, policy: number, iovaHigh: number, iovaLow: number, access: number): number {
    const iotlb = this.#trustedIotlb;
    const epoch = iotlb.epoch();
    const number = TrustedContext.number.peek(this.#kernel, this.#context);
    const tag = this.#trusted ? 1 : 0;
    if (!iotlb.lookup(number, iovaHigh, iovaLow, tag) || (iotlb.permissions & access) !== access)
      return this.#walkAndFill(guest, policy, number, tag, iovaHigh, iovaLow, access, epoch);
    this.hit = true;
    this.root = iotlb.root;
    this.frame = iotlb.frame;
    return this.#checksHits ? this.#check(iotlb.frame, guest, (iotlb.permissions >>> claimShift) as Claim) : 0;
  }

  #walkAndFill(guest: number, policy: number, number: number, tag: number, iovaHigh: number, iovaLow: number, access: number, epoch: number): number {
    const walk = this.#walk;
    this.root = TrustedContext.root.peek(this.#kernel, this.#context);
    if (this.#tables.walk(this.root, iovaHigh, iovaLow, access, walk) !== 0) return TrustReason.NOT_MAPPED;
    this.frame = walk.frame;
    const claim = claimOf(policy, iovaHigh, iovaLow, walk.entryHigh);
    const refused = this.#check(walk.frame, guest, claim);
    if (refused === 0) this.#trustedIotlb.fill(number, iovaHigh, iovaLow, walk.frame, walk.permissions | (claim << claimShift), this.root, epoch, tag);
    return refused;
  }

  #check(frame: Frame, guest: number, claim: Claim): number {
    if (frame === 0 || frame >= this.#frames.count) return 0;
    return judgeAccess(this.#frames.readVisibility(frame), this.#trusted, guest, claim, this.#reachesShared);
  }
}

function claimOf(policy: number, iovaHigh: number, iovaLow: number, entryHigh: number): Claim {
  if (policy === TBitPolicy.SPLIT) return iovaHigh !== 0 || iovaLow >>> 0 >= splitAt ? Claim.SHARED : Claim.PRIVATE;
  if (policy === TBitPolicy.C_BIT) return (entryHigh & cBit) !== 0 ? Claim.PRIVATE : Claim.SHARED;
  return Claim.NOTHING;
}
