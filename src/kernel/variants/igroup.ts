/** What won in seed 002: one record for the group, `iommufd_group`, and a replace that moves all members in it. It is Linux 7.2 as it is. */
import { variant } from '../variant.ts';

export default variant({ mistake: null, source: 'iommufd_group, Linux 6.6 (e88d4ec154a8, e8b57a50334c); Linux 7.2.13', caughtBy: null });
