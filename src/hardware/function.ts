/**
 * A PCI function that can do DMA (an edu-like device): its requester id, its in-flight slot, and an internal buffer.
 *
 * The in-flight slot is how an invalidation knows which transactions began before it (DESIGN, "In-flight DMA"). One thread
 * drives a function at a time; only it writes the slot:
 *
 *   idle -> in flight   the device, before it reads any translation
 *   in flight -> idle   the device, after the data have moved
 */
import { object, ref, u32, words } from '#hostmem/struct';

/** Bytes of a function's internal buffer. */
export const bufferBytes = 4096;

/** Bits of the in-flight slot; the bits above count transactions, so that no two have the same word. */
export const InFlight = { BUSY: 1, WRITE: 2, countUnit: 4 } as const;

/** Words that different threads write are 128 bytes apart. */
export const PciFunction = object('PciFunction', {
  /** Bus, device and function: `bus << 8 | devfn`. */
  rid: u32,
  /** The id that the unit sees on its requests: a bridge may have put its own in place of `rid`. */
  sourceId: u32,
  unit: ref('IommuUnit'),
  /** How many PASIDs its requests may carry; 0 without the PASID capability. */
  pasids: u32,
  /** The number of its next group of page requests, 0 for a function without PRI; and a bit for each number whose group waits for its answer, and how many do (`request-groups.ts`). */
  nextGroup: u32,
  groupsWaiting: words(16),
  groupsOut: u32,
  /** Its device interface, where it has TDISP. */
  tdi: ref('Tdi'),
  /** Its address translation cache; `NULL` for a function without ATS. */
  atc: ref('Atc'),
  /**
   * Ring of functions that nothing keeps from talking to each other below the unit (no ACS); `NULL` for one that is alone. A request without
   * translation to the memory of another one reaches that and never the unit.
   */
  nextPeer: ref('PciFunction'),
  /** Page number on the bus of its memory (a BAR of one page: the internal buffer); 0 for none. */
  bar: u32,
  /** Not 0 once it was pulled out, or is as good as that: it answers nothing any more. Its own thread says so, when nothing of it is in flight. */
  gone: u32,
  /** Behind a mock unit, its register of the function: the root frame of its tables, 0 while it is blocked. */
  mockRoot: u32,
  nextOfMachine: ref('PciFunction'),
  nextOfUnit: ref('PciFunction'),
  /** Kept for system software, which hangs a record of its own here; hardware never reads it. */
  driverData: u32,
  /** The value of `inFlight` that the unit's queue waits to see gone; written by the queue. */
  drainSeen: u32,
  padBefore: words(32),
  inFlight: u32,
  /** Counters of the device's thread: transactions (one a page), those that hit the IOTLB, those that faulted, and bytes moved. */
  transactions: u32,
  hits: u32,
  faults: u32,
  bytes: u32,
  padBehind: words(32),
  buffer: words(bufferBytes / 4),
});
