/** A page request that iommufd's queue and the core both have. */
import { appendRequest } from '../fault-queue.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "queues a page request for the user and leaves it on the device's own list, from which it is answered and freed when the device goes",
  source: '738e6f32e61d (CVE-2026-74520)',
  caughtBy: 'F2',
  iopf: { deliver: (kernel, _device, queue, request) => appendRequest(kernel, queue, request) },
});
