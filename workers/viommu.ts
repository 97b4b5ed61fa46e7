/** Worker of an actor that is a virtual IOMMU; see `src/actors/viommu.ts`. */
import { Viommu } from '#src/actors/viommu';
import type { ActorReport, Task } from '#src/task';
import { join } from './join.ts';

export default (task: Task): Promise<ActorReport> => join(task, 'viommu', (seat, subject) => new Viommu(seat, subject));
