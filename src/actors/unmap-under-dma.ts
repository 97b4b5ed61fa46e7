/** What a VMM does that wants to know whether an unmap has reached everybody. */
import type { Vm } from './vm.ts';

/** A buffer of a process, for one of its IOASes. */
export interface Buffer {
  readonly iommufd: number;
  readonly ioas: number;
  readonly va: bigint;
}

/** Unmaps a range, sees that a device (which serves a command) does not reach its last line any more, and maps the buffer there again. */
export function unmapAndMap(thread: Vm, { iommufd, ioas, va }: Buffer, device: string, iova: number, lengthBytes: number): void {
  thread.expect('the unmap', thread.unmap(iommufd, ioas, iova, lengthBytes));
  thread.check(thread.dma(device, 'read', iova + lengthBytes - 64, 64) !== 0, `${device} read a page whose unmap had returned`);
  thread.expect('the map', thread.map(iommufd, ioas, iova, va, lengthBytes));
}
