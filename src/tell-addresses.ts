/** The addresses that a failing schedule's DMA went to, and where each led when it had failed: page tables and caches as it left them. */
import type { Host } from '#hostmem/host';
import { dmaPasid, iovaPage, isDma, ridOf } from './check/dma-words.ts';
import { keptEvents } from './kept-events.ts';
import { answer, type Question } from './reach-question.ts';
import { domainText, hex, isStale, lineText, outcomeText, wide } from './reach-words.ts';
import type { AddressState } from './report/failure.ts';
import { functionNames } from './world-names.ts';

/** Addresses that are told: those that were used last. */
const most = 4;

/** The host is as the schedule left it; `kept` are its events. */
export function addressesOf(host: Host, directory: Readonly<Record<string, number>>, kept: SharedArrayBuffer): AddressState[] {
  return questions(host, directory, kept).flatMap((question) => stateOf(host, directory, question));
}

function questions(host: Host, directory: Readonly<Record<string, number>>, kept: SharedArrayBuffer): Question[] {
  const names = functionNames(host, directory);
  const found = new Map<string, Question>();
  for (const { cursor } of keptEvents(kept).reverse()) {
    if (!isDma(cursor) || iovaPage(cursor) < 0 || found.size === most) continue;
    const device = names.get(ridOf(cursor));
    if (device === undefined) continue;
    const question = { device, pasid: dmaPasid(cursor), iova: BigInt(iovaPage(cursor)) * 4096n };
    found.set(`${device} ${question.pasid} ${question.iova}`, question);
  }
  return [...found.values()];
}

/** Nothing of what has no answer: a device without a unit, or records that the failure left broken. */
function stateOf(host: Host, directory: Readonly<Record<string, number>>, question: Question): AddressState[] {
  const { device, pasid, iova } = question;
  try {
    const reach = answer(host, directory, question);
    return [{
      title: `${device}, ${pasid === null ? '' : `PASID ${pasid}, `}${hex(iova)}`,
      domain: domainText(device, reach),
      entries: reach.entries.map(({ name, at, value }) => ({ name, at, value: wide(value) })),
      outcome: outcomeText(iova, reach),
      cached: reach.cached.map((line) => ({ text: lineText(line), stale: isStale(reach, line) })),
    }];
  } catch {
    return [];
  }
}
