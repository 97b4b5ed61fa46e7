/** Maps every second of the pages 1 MiB apart; another thread maps the others: each table is wanted by both at once. */
import { workerData } from 'node:worker_threads';
import { vtdSecondStage } from '#hostmem/formats/vtd-second-stage';
import { Host, type HostBuffers } from '#hostmem/host';
import type { Frame } from '#hostmem/memory';
import { PageTable } from '#hostmem/page-table';
import { meet } from './meet.ts';

export interface MapperTask {
  buffers: HostBuffers;
  root: Frame;
  parity: number;
  pages: number;
  start: Int32Array;
}

const task = workerData as MapperTask;
const host = new Host(task.buffers);
const table = new PageTable(host.ram, host.frames, vtdSecondStage(4));
meet(task.start, 2);
for (let i = 0; i < task.pages; i++) {
  const page = 2 * i + task.parity;
  const failed = table.mapPage(task.root, page >>> 12, (page & 4095) << 20, (page + 1) as Frame, 3);
  if (failed !== 0) throw new Error(`page ${page}: ${failed}`);
}
