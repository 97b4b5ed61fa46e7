/** The vdevice that has a pointer to its device and nothing else: no count of it, and no notice when it goes. */
import { putObject } from '../objects.ts';
import { variant } from '../variant.ts';

export default variant({
  mistake: 'lets a device be unbound while a vdevice names it',
  source: '"iommufd: Destroy vdevice on idevice destroy" (20250627033809.1730752-3-yilun.xu@linux.intel.com)',
  caughtBy: 'O4',
  vdevice: {
    holdDevice: (kernel, device) => putObject(kernel, device),
    letDeviceGo() {},
    remove() {},
  },
});
