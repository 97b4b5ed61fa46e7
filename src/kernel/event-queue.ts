/**
 * The vEVENTQ (drivers/iommu/iommufd/eventq.c): what a vIOMMU's hardware reports, for its VM to read. When it is full a record without
 * data is last in the queue and says that events were lost; its sequence number is that of the last of them.
 */
import { mutex } from '#hostmem/locks';
import { NULL, type Ref } from '#hostmem/object';
import { freeRun, runGet, runSet, tryCreateRun } from '#hostmem/run';
import { object, ref, u32 } from '#hostmem/struct';
import { refusesCopy } from './argument.ts';
import { allocated, fail } from './errno.ts';
import { FileKind } from './open-file.ts';
import type { Kernel } from './kernel.ts';
import { openObjectFile } from './object-file.ts';
import { abortObject, addUser, dropUser, IommufdObject, Kind, publishObject, putIommufd, reserveObject } from './objects.ts';
import { getViommu, Viommu } from './viommu.ts';

export const EventQueue = object('EventQueue', {
  header: ref('IommufdObject'),
  viommu: ref('Viommu'),
  type: u32,
  depth: u32,
  /** The list of the vIOMMU. */
  next: ref('EventQueue').under('viommu.eventQueuesRwsem'),
  lock: mutex,
  first: ref('VirtualEvent').under('lock'),
  last: ref('VirtualEvent').under('lock'),
  /** Events with data. */
  count: u32.under('lock'),
  sequence: u32.under('lock'),
});

const VirtualEvent = object('VirtualEvent', {
  /** `LOST`: no data, and it is the last of its queue. */
  flags: u32,
  sequence: u32,
  /** Words of data. */
  words: u32,
  data: ref('Run'),
  next: ref('VirtualEvent'),
});

const LOST = 1;
const headerBytes = 8;
const deepest = 1 << 19;
const lastSequence = 0x7fffffff;

export interface EventQueueAlloc {
  flags: number;
  viommuId: number;
  type: number;
  depth: number;
  reserved?: number;
  outEventQueueId: number;
  outEventQueueFd: number;
}

/** IOMMU_VEVENTQ_ALLOC: EOPNOTSUPP, EINVAL for the depth, ENOENT, EEXIST for a type that the vIOMMU has a queue of, ENOMEM. */
export function eventQueueAlloc(kernel: Kernel, iommufd: Ref<'Iommufd'>, arg: EventQueueAlloc): void {
  const memory = kernel.memory;
  if (arg.flags !== 0 || (arg.reserved ?? 0) !== 0 || arg.type === 0) fail('EOPNOTSUPP', 'unknown flags, a reserved field, or no type');
  if (arg.depth === 0 || arg.depth > deepest) fail('EINVAL', `a queue of ${arg.depth} events`);
  const viommu = getViommu(kernel, iommufd, arg.viommuId);
  Viommu.eventQueuesRwsem.acquireWrite(memory, viommu);
  try {
    if (findQueue(kernel, viommu, arg.type) !== NULL) fail('EEXIST', `the vIOMMU has a queue of type ${arg.type}`);
    createQueue(kernel, iommufd, viommu, arg);
  } finally {
    Viommu.eventQueuesRwsem.releaseWrite(memory, viommu);
  }
}

/** Under `eventQueuesRwsem`. */
function createQueue(kernel: Kernel, iommufd: Ref<'Iommufd'>, viommu: Ref<'Viommu'>, arg: EventQueueAlloc): void {
  const memory = kernel.memory;
  const header = reserveObject(kernel, iommufd, Kind.EVENT_QUEUE);
  const queue = EventQueue.tryCreate(memory);
  let fd: number;
  try {
    EventQueue.header.poke(memory, allocated(queue), header);
    IommufdObject.body.poke(memory, header, queue);
    fd = openObjectFile(kernel, header, FileKind.EVENT_QUEUE, arg);
  } catch (error) {
    if (queue !== NULL) EventQueue.free(memory, queue);
    abortObject(kernel, header);
    throw error;
  }
  EventQueue.viommu.poke(memory, queue, viommu);
  EventQueue.type.poke(memory, queue, arg.type);
  EventQueue.depth.poke(memory, queue, arg.depth);
  EventQueue.next.write(memory, queue, Viommu.eventQueues.read(memory, viommu));
  Viommu.eventQueues.write(memory, viommu, queue);
  addUser(kernel, Viommu.header.peek(memory, viommu));
  arg.outEventQueueId = publishObject(kernel, header);
  arg.outEventQueueFd = fd;
}

function findQueue(kernel: Kernel, viommu: Ref<'Viommu'>, type: number): Ref<'EventQueue'> {
  const memory = kernel.memory;
  let at: Ref<'EventQueue'> = Viommu.eventQueues.read(memory, viommu);
  while (at !== NULL && EventQueue.type.peek(memory, at) >>> 0 !== type >>> 0) at = EventQueue.next.read(memory, at);
  return at;
}

/** The driver reports an event (`iommufd_viommu_report_event`). EOPNOTSUPP when nobody listens: it is dropped. */
export function reportEvent(kernel: Kernel, viommu: Ref<'Viommu'>, type: number, data: readonly number[]): void {
  const memory = kernel.memory;
  Viommu.eventQueuesRwsem.acquireRead(memory, viommu);
  const queue = findQueue(kernel, viommu, type);
  if (queue !== NULL) {
    EventQueue.lock.acquire(memory, queue);
    enqueue(kernel, queue, data);
    EventQueue.lock.release(memory, queue);
  }
  Viommu.eventQueuesRwsem.releaseRead(memory, viommu);
  if (queue === NULL) fail('EOPNOTSUPP', `the vIOMMU has no queue of type ${type}`);
}

/** Takes the record of lost events off the end and puts the new one there, which may be such a record again. Under `lock`, as all below. */
function enqueue(kernel: Kernel, queue: Ref<'EventQueue'>, data: readonly number[]): void {
  const memory = kernel.memory;
  const count = EventQueue.count.read(memory, queue);
  const event = count === EventQueue.depth.peek(memory, queue) ? NULL : createEvent(kernel, data);
  const old = EventQueue.last.read(memory, queue);
  const oldIsLost = old !== NULL && VirtualEvent.flags.peek(memory, old) === LOST;
  const sequence = EventQueue.sequence.read(memory, queue);
  EventQueue.sequence.write(memory, queue, sequence === lastSequence ? 0 : sequence + 1);
  if (event === NULL && oldIsLost) {
    VirtualEvent.sequence.poke(memory, old, sequence);
    return;
  }
  const added = event === NULL ? VirtualEvent.tryCreate(memory) : event;
  if (added === NULL) return;
  if (event === NULL) VirtualEvent.flags.poke(memory, added, LOST);
  else EventQueue.count.write(memory, queue, count + 1);
  VirtualEvent.sequence.poke(memory, added, sequence);
  if (oldIsLost) takeOut(kernel, queue, old);
  append(kernel, queue, added);
}

/** `NULL` without memory. */
function createEvent(kernel: Kernel, data: readonly number[]): Ref<'VirtualEvent'> {
  const memory = kernel.memory;
  const event = VirtualEvent.tryCreate(memory);
  const words = event === NULL || data.length === 0 ? NULL : tryCreateRun(memory, data.length);
  if (event === NULL || (words === NULL && data.length > 0)) {
    if (event !== NULL) VirtualEvent.free(memory, event);
    return NULL;
  }
  for (const [index, word] of data.entries()) runSet(memory, words, index, word);
  VirtualEvent.words.poke(memory, event, data.length);
  VirtualEvent.data.poke(memory, event, words);
  return event;
}

function append(kernel: Kernel, queue: Ref<'EventQueue'>, event: Ref<'VirtualEvent'>): void {
  const memory = kernel.memory;
  const last = EventQueue.last.read(memory, queue);
  if (last === NULL) EventQueue.first.write(memory, queue, event);
  else VirtualEvent.next.poke(memory, last, event);
  EventQueue.last.write(memory, queue, event);
}

function takeOut(kernel: Kernel, queue: Ref<'EventQueue'>, event: Ref<'VirtualEvent'>): void {
  const memory = kernel.memory;
  const next = VirtualEvent.next.peek(memory, event);
  let before: Ref<'VirtualEvent'> = NULL;
  for (let at: Ref<'VirtualEvent'> = EventQueue.first.read(memory, queue); at !== event; at = VirtualEvent.next.peek(memory, at)) before = at;
  if (before === NULL) EventQueue.first.write(memory, queue, next);
  else VirtualEvent.next.poke(memory, before, next);
  if (next === NULL) EventQueue.last.write(memory, queue, before);
  if (VirtualEvent.flags.peek(memory, event) !== LOST) EventQueue.count.write(memory, queue, EventQueue.count.read(memory, queue) - 1);
  const data = VirtualEvent.data.peek(memory, event);
  if (data !== NULL) freeRun(memory, data);
  VirtualEvent.free(memory, event);
}

/** read(2): whole records, as many as fit. EINVAL when not even a header fits, or the first event does not. */
export function readEvents(kernel: Kernel, queue: Ref<'EventQueue'>, count: number): Uint8Array {
  const memory = kernel.memory;
  if (count < headerBytes) fail('EINVAL', `${count} bytes hold no event`);
  const found: number[] = [];
  EventQueue.lock.acquire(memory, queue);
  let first: Ref<'VirtualEvent'> = EventQueue.first.read(memory, queue);
  const any = first !== NULL;
  let refused = false;
  for (; first !== NULL && (found.length + 2 + VirtualEvent.words.peek(memory, first)) * 4 <= count; first = EventQueue.first.read(memory, queue)) {
    refused = refusesCopy(kernel);
    if (refused) break;
    found.push(VirtualEvent.flags.peek(memory, first), VirtualEvent.sequence.peek(memory, first));
    const words = VirtualEvent.words.peek(memory, first);
    for (let word = 0; word < words; word++) found.push(runGet(memory, VirtualEvent.data.peek(memory, first), word));
    takeOut(kernel, queue, first);
  }
  EventQueue.lock.release(memory, queue);
  if (refused && found.length === 0) fail('EFAULT', 'the records cannot be written');
  if (any && found.length === 0) fail('EINVAL', `the first event is longer than ${count} bytes`);
  return new Uint8Array(Uint32Array.from(found).buffer);
}

export function hasEvents(kernel: Kernel, queue: Ref<'EventQueue'>): boolean {
  EventQueue.lock.acquire(kernel.memory, queue);
  const first = EventQueue.first.read(kernel.memory, queue);
  EventQueue.lock.release(kernel.memory, queue);
  return first !== NULL;
}

/** The last close of its descriptor. */
export function releaseEventQueueFile(kernel: Kernel, queue: Ref<'EventQueue'>): void {
  const header = EventQueue.header.peek(kernel.memory, queue);
  const iommufd = IommufdObject.iommufd.peek(kernel.memory, header);
  dropUser(kernel, header);
  putIommufd(kernel, iommufd);
}

/** The destructor (`iommufd_veventq_destroy`): what nobody read is gone. */
export function destroyEventQueue(kernel: Kernel, queue: Ref<'EventQueue'>): void {
  const memory = kernel.memory;
  const viommu = EventQueue.viommu.peek(memory, queue);
  Viommu.eventQueuesRwsem.acquireWrite(memory, viommu);
  unlinkQueue(kernel, viommu, queue);
  Viommu.eventQueuesRwsem.releaseWrite(memory, viommu);
  EventQueue.lock.acquire(memory, queue);
  for (let at = EventQueue.first.read(memory, queue); at !== NULL; at = EventQueue.first.read(memory, queue)) takeOut(kernel, queue, at);
  EventQueue.lock.release(memory, queue);
  dropUser(kernel, Viommu.header.peek(memory, viommu));
  EventQueue.free(memory, queue);
}

function unlinkQueue(kernel: Kernel, viommu: Ref<'Viommu'>, queue: Ref<'EventQueue'>): void {
  const memory = kernel.memory;
  const next = EventQueue.next.read(memory, queue);
  let at = Viommu.eventQueues.read(memory, viommu);
  if (at === queue) Viommu.eventQueues.write(memory, viommu, next);
  else {
    while (EventQueue.next.read(memory, at) !== queue) at = EventQueue.next.read(memory, at);
    EventQueue.next.write(memory, at, next);
  }
}
