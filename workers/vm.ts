/** Worker of an actor that is a thread of a VMM or of its guest; see `src/actors/vm.ts`. */
import { Vm } from '#src/actors/vm';
import type { ActorReport, Task } from '#src/task';
import { join } from './join.ts';

export default (task: Task): Promise<ActorReport> => join(task, 'vm', (seat, subject) => new Vm(seat, subject));
