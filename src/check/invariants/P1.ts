/** P1, fill consistency: what a domain of an IOAS maps is what the IOAS maps, each page where it should be and nothing besides. */
import { NULL, type Ref } from '#hostmem/object';
import { runGet } from '#hostmem/run';
import { MapReturned } from '../../kernel/events.ts';
import { Hwpt } from '../../kernel/hwpt.ts';
import { Ioas } from '../../kernel/ioas.ts';
import { Area } from '../../kernel/iopt-area.ts';
import { Kind } from '../../kernel/objects.ts';
import { Pages } from '../../kernel/pages.ts';
import { DomainTables } from '../domain-tables.ts';
import { breach, invariant, type Breach } from '../invariant.ts';
import { isRevoked } from '../page-use.ts';
import { areasOf, bodies, contexts, domainsOf, nameOf } from '../records.ts';
import type { View } from '../view.ts';

export default invariant<DomainTables>({
  id: 'P1',
  claim: 'while nobody holds domains_rwsem of an IOAS, each of its domains maps the pages of its areas, and nothing else',
  events: [],
  start: (view) => new DomainTables(view.host),
  step: () => null,
  inspectAfter: [MapReturned],
  inspect(tables, view) {
    const memory = view.host.kernel;
    for (const iommufd of contexts(view)) {
      for (const ioas of bodies<'Ioas'>(view, iommufd, Kind.IOAS)) {
        if (Ioas.domainsRwsem.isHeld(memory, ioas)) continue;
        const areas = areasOf(view, ioas).filter((area) => Area.pages.peek(memory, area) !== NULL && !isRevoked(view, area));
        // A dma-buf is revoked under the mutex of its pages alone.
        if (areas.some((area) => Pages.mutex.isHeld(memory, Area.transit.peek(memory, area)))) continue;
        for (const domain of domainsOf(view, ioas)) {
          const wrong = compare(tables, view, domain, areas);
          if (wrong !== null) return tell(view, iommufd, ioas, domain, wrong);
        }
      }
    }
    return null;
  },
});

/** The end of a sentence that begins with the domain, or null. */
function compare(tables: DomainTables, view: View, domain: Ref<'IommuDomain'>, areas: readonly Ref<'Area'>[]): string | null {
  const leafBytes = tables.leafBytes(domain);
  let expected = 0;
  for (const area of areas) {
    const { start, bytes } = rangeOf(view, area);
    const leaves = bytes / leafBytes;
    for (let leaf = 0; leaf < leaves; leaf++) {
      const iova = start + leaf * leafBytes;
      const wanted = addressOf(view, area, leaf * leafBytes);
      const found = tables.find(domain, iova / leafBytes);
      if (found === wanted) continue;
      return `${found < 0 ? 'does not map' : 'maps elsewhere'} iova 0x${iova.toString(16)}, which is mapped there`;
    }
    expected += leaves;
  }
  const count = tables.count(domain);
  return count === expected ? null : `maps ${count} pages of ${leafBytes} bytes, ${expected} are mapped there`;
}

/** Exact below 2^53, where the domains of today end. */
function rangeOf(view: View, area: Ref<'Area'>): { start: number; bytes: number } {
  const memory = view.host.kernel;
  const node = Area.node.peek(memory, area);
  const join = (high: number, low: number): number => (high >>> 0) * 0x1_0000_0000 + (low >>> 0);
  const start = join(Ioas.areas.startHigh(memory, node), Ioas.areas.startLow(memory, node));
  return { start, bytes: join(Ioas.areas.lastHigh(memory, node), Ioas.areas.lastLow(memory, node)) - start + 1 };
}

/** The host address of a byte of an area; -1 when its page is not pinned. */
function addressOf(view: View, area: Ref<'Area'>, offset: number): number {
  const memory = view.host.kernel;
  const frames = Pages.frames.peek(memory, Area.pages.peek(memory, area));
  const byte = Area.pageOffset.peek(memory, area) + offset;
  return frames === NULL ? -1 : runGet(memory, frames, Area.firstPage.peek(memory, area) + Math.floor(byte / 4096)) * 4096 + (byte % 4096);
}

function tell(view: View, iommufd: Ref<'Iommufd'>, ioas: Ref<'Ioas'>, domain: Ref<'IommuDomain'>, wrong: string): Breach {
  const memory = view.host.kernel;
  const hwpt = bodies<'Hwpt'>(view, iommufd, Kind.HWPT).find((one) => Hwpt.domain.peek(memory, one) === domain);
  const name = hwpt === undefined ? 'a domain' : nameOf(view, Hwpt.header.peek(memory, hwpt));
  return breach(`${name} of ${nameOf(view, Ioas.header.peek(memory, ioas))} ${wrong}`);
}
