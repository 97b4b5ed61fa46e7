/**
 * The ownership check behind a translation: RMP (AMD), granule check (Arm), TD bit (Intel), as far as they agree (SEMANTICS f.2, f.3 X1, X3).
 *
 * It knows the request's T, the frame's visibility, and what the mapping claims of the page; nothing of tables and caches.
 */
import { guestOf, Visibility, visibilityOf, type Frames } from '#hostmem/frames';
import type { Frame } from '#hostmem/memory';

/** What a mapping says of its page: by its C bit, by the half of the address space that it lies in, or nothing. */
export const Claim = { NOTHING: 0, PRIVATE: 1, SHARED: 2 } as const;
export type Claim = (typeof Claim)[keyof typeof Claim];

/** Why a request of a host with confidential guests is refused, beside a unit's own reasons, which are below 0x100 (RMP, GPC and TD-bit class). */
export const TrustReason = {
  NONE: 0,
  /** The function's bus master bit is clear: it sends nothing. */
  BUS_MASTER_OFF: 0x200,
  /** There is no trusted context, so that nobody has said what a request with T = 1 may reach. */
  NO_CONTEXT: 0x201,
  /** The trusted tables lead nowhere. */
  NOT_MAPPED: 0x202,
  /** T = 0 met a private page; T = 1 a private page of another guest. */
  PRIVATE: 0x210,
  FOREIGN: 0x211,
  /** The page is on its way from one role to the other. */
  NOT_ACCEPTED: 0x212,
  /** The page is shared and the mapping says private, or the other way round. */
  NOT_AS_CLAIMED: 0x213,
  /** T = 1 met a page that is not private, where the hardware keeps it from those. */
  NOT_PRIVATE: 0x214,
} as const;
export type TrustReason = (typeof TrustReason)[keyof typeof TrustReason];

/**
 * Whether a request may reach a frame with that visibility; `guest` is whose trusted context a request with T = 1 came through, and
 * `reachesShared` whether such a request may reach pages that are not private (f.2 leaves it open for TDX).
 */
export function judgeAccess(word: number, trusted: boolean, guest: number, claim: Claim, reachesShared: boolean): TrustReason {
  const visibility = visibilityOf(word);
  const isShared = visibility === Visibility.SHARED || visibility === Visibility.HYPERVISOR;
  if (!isShared && !trusted) return TrustReason.PRIVATE;
  if (!isShared && guestOf(word) !== guest) return TrustReason.FOREIGN;
  if (visibility === Visibility.PENDING) return TrustReason.NOT_ACCEPTED;
  if (isShared && trusted && !reachesShared) return TrustReason.NOT_PRIVATE;
  const isAsClaimed = claim === Claim.NOTHING || (claim === Claim.SHARED) === isShared;
  return isAsClaimed ? TrustReason.NONE : TrustReason.NOT_AS_CLAIMED;
}

/** Whether the unit may cache a translation that a request with T = 0 walked to. */
export function mayCacheUntrusted(frames: Frames, frame: Frame): boolean {
  return frame === 0 || frame >= frames.count || judgeAccess(frames.readVisibility(frame), false, 0, Claim.NOTHING, true) === 0;
}
