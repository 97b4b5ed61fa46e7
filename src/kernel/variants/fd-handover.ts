/** Seed 001, what was merged: two descriptors, no callbacks, as Linux 7.2 has it. */
import { variant } from '../variant.ts';

export default variant({ mistake: null, source: 'VFIO_DEVICE_BIND_IOMMUFD and ATTACH_IOMMUFD_PT, v6.6 (seed 001)', caughtBy: null });
