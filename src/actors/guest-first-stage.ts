/**
 * First-stage tables that a guest keeps in its memory for its virtual unit, VT-d's unless another format is named: four tables, one a level, for a
 * window of 2 MiB. Only leaves change; hardware reads them, and each is one point.
 */
import { poke, write64 } from '#hostmem/atomics';
import { vtdFirstStage } from '#hostmem/formats/vtd-first-stage';
import type { Host } from '#hostmem/host';
import { highOf, indexAt, lowOf } from '#hostmem/iova';
import { hpaOf, pageBytes, type Frame } from '#hostmem/memory';
import type { Ref } from '#hostmem/object';
import { Access, type PageTableFormat } from '#hostmem/page-table-format';
import { runGet } from '#hostmem/run';
import { firstStageGpa, windowIova } from './virtual-vtd.ts';

export const firstStageLevels = 4;
const ofVtd: PageTableFormat = vtdFirstStage(firstStageLevels);
const readWrite = Access.READ | Access.WRITE;

/** Host address of the entry of a level for an IOVA, in the tables at `rootGpa`. */
function entryAt(host: Host, frames: Ref<'Run'>, rootGpa: number, level: number, iova: number): number {
  const page = rootGpa / pageBytes + (firstStageLevels - level);
  const iovaPage = Math.floor(iova / pageBytes);
  return hpaOf(runGet(host.kernel, frames, page) as Frame) + indexAt(level, highOf(iovaPage), lowOf(iovaPage), 511) * 8;
}

/** Makes empty tables, while a world is built; `frames` are the guest's memory. Their tables are in a row, root first. */
export function layFirstStage(host: Host, frames: Ref<'Run'>, rootGpa: number = firstStageGpa, format: PageTableFormat = ofVtd): void {
  for (let level = format.levels; level > 1; level--) {
    const next = (rootGpa / pageBytes + (format.levels - level) + 1) as Frame;
    poke(host.ram, entryAt(host, frames, rootGpa, level, windowIova), format.tableLow(next, level));
  }
}

/** Writes the leaf of a page: to a page of the guest, or with `null` to none. */
export function setLeaf(
  host: Host, frames: Ref<'Run'>, iova: number, gpa: number | null, rootGpa: number = firstStageGpa, format: PageTableFormat = ofVtd,
): void {
  const low = gpa === null ? 0 : format.leafLow((gpa / pageBytes) as Frame, readWrite, 1);
  write64(host.ram, entryAt(host, frames, rootGpa, 1, iova), 0, low, format.labels[1]!);
}
