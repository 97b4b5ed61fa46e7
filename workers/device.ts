/** Worker of an actor that is a device that does DMA; see `src/actors/device.ts`. */
import { Device } from '#src/actors/device';
import type { ActorReport, Task } from '#src/task';
import { join } from './join.ts';

export default (task: Task): Promise<ActorReport> => join(task, 'device', (seat, subject) => new Device(seat, subject));
