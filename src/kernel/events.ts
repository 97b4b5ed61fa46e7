/** What the kernel reports about itself. Times of a call are the stamps of its two events. */
import { event } from '#hostmem/history';

/** Any ioctl, open or close began: `command` is a `commandNumber`. It ends when nothing of it is left, its references too. */
export const CallBegan = event('call', ['command', 'process']);
/** It ended with what `errnoNumber` says; a call that an assertion ended has not. */
export const CallEnded = event('call end', ['command', 'process', 'errno']);
/** A call on a VFIO device began: `what` is a `VfioCall`; `pt` the object asked for (0 for detach and close), `pasid` the slot of a PASID call. */
export const VfioCalled = event('vfio call', ['what', 'device', 'group', 'pt', 'process', 'pasid']);
/** It returned: `hwpt` is the id in force on success, `errno` the number of `errnoNumber`, 0 on success. */
export const VfioReturned = event('vfio return', ['what', 'device', 'group', 'hwpt', 'errno', 'process']);
/** Stands for the root of an identity domain. */
export const UNTRANSLATED = -1;
/** A group starts to move between two domains, named by their root frames (0: blocking). Emitted under the group's mutex. */
export const GroupMoves = event('group moves', ['group', 'oldRoot', 'newRoot']);
/** It has moved, or has been put back: `root` is what all members now translate through. Emitted under the same hold of the mutex. */
export const GroupMoved = event('group moved', ['group', 'root']);
/** A user claimed the group, or its slot's last member detached: all members are blocked from now on. Emitted under the lock that an attach needs. */
export const GroupBlocked = event('group blocked', ['group']);
/** A group that nobody owned belongs to a process now, and is blocked. Emitted under the group's mutex, as its release. */
export const GroupClaimed = event('group claimed', ['group', 'process']);
/** The last owner let go: back to the default domain. */
export const GroupReleased = event('group released', ['group']);
/** Requests of a group with a PASID may go through the domain `newRoot` too from now on (0: none, the PASID is blocked). Emitted under the group's mutex; by `process`. */
export const PasidMoves = event('pasid moves', ['group', 'pasid', 'oldRoot', 'newRoot', 'process']);
/** From now on they go through this one alone. Emitted under the same hold of the mutex. */
export const PasidMoved = event('pasid moved', ['group', 'pasid', 'root']);
/** A user took back what a PASID of a group was authorised for, and the call is about to return. */
export const PasidRevoked = event('pasid revoked', ['group', 'pasid']);
/** The driver of a device took work from a process, to be done under a PASID. */
export const PasidSubmitted = event('pasid submitted', ['group', 'pasid', 'process']);
/** KVM tells VFIO under its lock that a device is for its VM (`on`), or is no more; a driver opens a device under that one's lock. */
export const KvmTells = event('kvm tells', ['device', 'on']);
export const DriverOpens = event('driver opens', ['device']);
/** A page request of a device, whose requester id is `function`, was queued for a user. Emitted under the queue's lock. */
export const PageRequestQueued = event('page request queued', ['device', 'group', 'function']);
/** What a function asks for with a PASID (-1: without one) from stamp `since` on is another handler's, or nobody's; what it asked for before is with the old one. */
export const RequestsSwitched = event('page requests switched', ['function', 'since', 'pasid']);
/** A number that was one process's PASID may be given to another from now on. Emitted under the lock of the numbers. */
export const PasidFreed = event('pasid freed', ['pasid', 'process']);
/** A driver starts to bind to a function (its requester id); `driver` is a `KernelDriver`. One that does DMA may do so from now on. */
export const DriverProbes = event('driver probes', ['group', 'function', 'driver']);
/** It was refused; it is bound; it is not any more. Of one that uses the default domain the latter two are emitted under the group's mutex. */
export const DriverRefused = event('driver refused', ['group', 'function', 'driver']);
export const DriverBound = event('driver bound', ['group', 'function', 'driver']);
export const DriverUnbound = event('driver unbound', ['group', 'function', 'driver']);
/** A function is parked in blocking, for its reset; it is about to go back to its group's domain; it is there. All under the group's mutex. */
export const ResetPrepared = event('reset prepared', ['group', 'function']);
export const ResetEnds = event('reset ends', ['group', 'function']);
export const ResetEnded = event('reset ended', ['group', 'function']);
/** The attachment record of a group names another HWPT. */
export const HwptRecorded = event('hwpt recorded', ['group', 'device', 'hwpt']);
/** A domain, named by its root frame, holds an IOAS's translations from now on, or does no more. */
export const DomainJoined = event('domain joined', ['ioas', 'process', 'root', 'format']);
export const DomainLeft = event('domain left', ['ioas', 'process', 'root']);
/** A mapping took its place in an IOAS, whichever call makes it: from now on its range may be filled. `permissions` are `Access` bits. */
export const AreaPlaced = event('area placed', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process', 'permissions']);
/** It is not there any more. Emitted under the same lock as its coming. */
export const AreaGone = event('area gone', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
/** From now on calls find an object by its id. Emitted under the lock of the table, as its end; `kind` is a `Kind`. */
export const ObjectPublished = event('object published', ['process', 'id', 'kind']);
/** Calls do not find it any more; its owner destroys it, or a user did. */
export const ObjectErased = event('object erased', ['process', 'id']);
/** A thread is about to make a call of a random program: `call` is its number in the table, `target` and `other` are ids or descriptors. */
export const StormCalled = event('storm call', ['call', 'process', 'target', 'other', 'iovaPage', 'pages']);
/** It returned; `refused` where something in it was made to fail. */
export const StormReturned = event('storm return', ['call', 'process', 'errno', 'refused']);
/** An unmap took a mapping out: from now on its range is being emptied. Emitted under `iovaRwsem`. */
export const AreaTaken = event('area taken', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
/** An HWPT is on its IOAS's list from now on. Emitted under `Ioas.mutex`. */
export const HwptLinked = event('hwpt linked', ['ioas', 'hwpt', 'process']);
/** The destructor of a DEVICE object begins; nobody has it any more. `device` is its id. */
export const DeviceGoes = event('device goes', ['process', 'device']);
/** A frame was to be unpinned that nobody has pinned. */
export const PinMissing = event('pin missing', ['frame']);
/** A destruction that must succeed found more users of an object than its owner: it is leaked. `kind` is a `Kind`. */
export const DestroyRefused = event('destroy refused', ['kind', 'id', 'users']);
/** IOAS_MAP began or returned; `pages` of 4 KiB. */
export const MapCalled = event('map call', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
export const MapReturned = event('map return', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'errno', 'process']);
export const UnmapCalled = event('unmap call', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
export const UnmapReturned = event('unmap return', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'errno', 'process']);

/** A kernel driver's mapping took its IOVA, in the domain with that root table; its unmap returned (`lazy`: before its flush). */
export const DmaMapped = event('dma mapped', ['root', 'iovaHigh', 'iovaLow', 'pages']);
export const DmaUnmapped = event('dma unmapped', ['root', 'iovaHigh', 'iovaLow', 'pages', 'lazy']);
/** An IOVA of the DMA API may be given out again. */
export const IovaFreed = event('iova freed', ['root', 'iovaHigh', 'iovaLow', 'pages']);

/** SET_DIRTY_TRACKING returned 0: `on` is what the domain, named by its root frame, is from now on. */
export const DirtyTracked = event('dirty tracking', ['root', 'on']);
/** A GET_DIRTY_BITMAP that clears began, over `pages` of 4 KiB. One that does not clear is told of by no event. */
export const DirtyQueried = event('dirty query', ['root', 'iovaHigh', 'iovaLow', 'pages']);
/** It has put into its user's bitmap that these pages were written. */
export const DirtyReported = event('dirty report', ['root', 'iovaHigh', 'iovaLow', 'pages']);
/** It succeeded; `begin` is a stamp from its start. */
export const DirtyAnswered = event('dirty answer', ['root', 'iovaHigh', 'iovaLow', 'pages', 'begin']);

export const VfioCall = { BIND: 1, ATTACH: 2, REPLACE: 3, DETACH: 4, CLOSE: 5, PASID_ATTACH: 6, PASID_DETACH: 7 } as const;
export type VfioCall = (typeof VfioCall)[keyof typeof VfioCall];

/** A page of a confidential guest is neither private nor shared from now on; then it is what `visibility` says. */
export const PageBlocked = event('page blocked', ['frame', 'guest']);
export const PageConverted = event('page converted', ['frame', 'guest', 'visibility']);
/** Between the two: what caches of translations for requests with T = `trusted` had of the page is gone, and nothing of it is in flight. */
export const CachesFlushed = event('caches flushed', ['frame', 'guest', 'trusted']);
/** A confidential guest's own allocator has a page again. */
export const GuestPageFreed = event('guest page freed', ['frame', 'guest']);
/**
 * The first stage of a guest, whose root is that page of its memory: a range is about to be mapped; an unmap of it has returned, to the driver in the
 * guest. `process` is the VMM's.
 */
export const GuestMaps = event('guest maps', ['process', 'root', 'iovaHigh', 'iovaLow', 'pages']);
export const GuestUnmapped = event('guest unmapped', ['process', 'root', 'iovaHigh', 'iovaLow', 'pages']);
/** A guest's driver mapped a page for DMA, by a `Backend`, or unmapped what it has at an address. */
export const HandleMapped = event('handle mapped', ['function', 'address', 'frame', 'backend']);
export const HandleUnmapped = event('handle unmapped', ['function', 'address', 'backend']);
/** A bounce page, by its frame, holds what the page that it stands for does; what is in it was copied to that page. */
export const BounceFilled = event('bounce filled', ['bounce', 'frame']);
export const BounceCopied = event('bounce copied', ['bounce', 'frame']);
