/** What the kernel reports about itself. Times of a call are the stamps of its two events. */
import { event } from '#hostmem/history';

/** A call on a VFIO device began: `what` is a `VfioCall`; `pt` the object asked for (0 for detach and close). */
export const VfioCalled = event('vfio call', ['what', 'device', 'group', 'pt', 'process']);
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
/** The last owner let go: back to the default domain. */
export const GroupReleased = event('group released', ['group']);
/** The attachment record of a group names another HWPT. */
export const HwptRecorded = event('hwpt recorded', ['group', 'device', 'hwpt']);
/** A domain, named by its root frame, holds an IOAS's translations from now on, or does no more. */
export const DomainJoined = event('domain joined', ['ioas', 'process', 'root']);
export const DomainLeft = event('domain left', ['ioas', 'process', 'root']);
/** A mapping took its place in an IOAS, whichever call makes it: from now on its range may be filled. */
export const AreaPlaced = event('area placed', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
/** IOAS_MAP began or returned; `pages` of 4 KiB. */
export const MapCalled = event('map call', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
export const MapReturned = event('map return', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'errno', 'process']);
export const UnmapCalled = event('unmap call', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'process']);
export const UnmapReturned = event('unmap return', ['ioas', 'iovaHigh', 'iovaLow', 'pages', 'errno', 'process']);

/** A kernel driver's mapping took its IOVA, in the domain with that root table; its unmap returned (`lazy`: before its flush). */
export const DmaMapped = event('dma mapped', ['root', 'iovaHigh', 'iovaLow', 'pages']);
/** An IOVA of the DMA API may be given out again. */
export const IovaFreed = event('iova freed', ['root', 'iovaHigh', 'iovaLow', 'pages']);
export const DmaUnmapped = event('dma unmapped', ['root', 'iovaHigh', 'iovaLow', 'pages', 'lazy']);

export const VfioCall = { BIND: 1, ATTACH: 2, REPLACE: 3, DETACH: 4, CLOSE: 5 } as const;
export type VfioCall = (typeof VfioCall)[keyof typeof VfioCall];
