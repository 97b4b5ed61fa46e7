/** A detach or replace of a PASID that thinks of what is on its way alone. */
import { IommufdDevice } from '../iommufd-device.ts';
import { PasidAttachment } from '../iommufd-pasid.ts';
import { switchPasidRequests } from '../iopf.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: "leaves what a PASID has asked for in the queue of the HWPT that it leaves: its user answers for an attachment that is gone",
  source: 'model-derived, no report (iommufd_auto_response_faults goes by the handle of the slot)',
  caughtBy: 'F3',
  iopf: {
    movePasid: (kernel, share, _old, hwpt) => switchPasidRequests(kernel, share, IommufdDevice.device.peek(kernel.memory, PasidAttachment.device.peek(kernel.memory, share)), hwpt),
  },
});
