/** The attach that puts an HWPT on the list of its IOAS, where making it puts it anyway. */
import { Hwpt, linkHwpt } from '../hwpt.ts';
import { attach } from '../iommufd-attach.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'links an HWPT into the list of its IOAS when a device attaches to it, although making it does so',
  source: 'b4ff830eca09, CVE-2023-54043',
  caughtBy: 'P5',
  attach: {
    attach(kernel, device, hwpt) {
      attach(kernel, device, hwpt);
      linkHwpt(kernel, Hwpt.ioas.peek(kernel.memory, hwpt), hwpt);
    },
  },
});
