/** The recordings of a real kernel that the project carries: the model answers every line of them as Linux did. */
import { conform, traceFiles } from '#src/conform/conform';
import { makePlayer } from '#src/conform/player';
import { parseTrace, readTrace, type TraceLine } from '#src/conform/trace-file';
import { firstDifference } from '#src/conform/compare';
import { expect, test } from 'vitest';

const folder = 'test/traces';

test.each(traceFiles([folder]))('%s', async (file) => {
  const { failed, skipped, passed } = await conform([file], makePlayer);
  expect(failed).toEqual([]);
  expect(skipped).toEqual([]);
  expect(passed).toBe(1);
});

test('a recording with one other answer is a difference at that line', async () => {
  const isAttach = ({ call, errno }: TraceLine): boolean => call === 'VFIO_DEVICE_ATTACH_IOMMUFD_PT' && errno === null;
  const file = traceFiles([folder]).find((one) => readTrace(one).some(isAttach))!;
  const lines = readTrace(file);
  const attach = lines.find(isAttach)!;
  const player = await makePlayer(file, lines);
  for (const line of lines) {
    const outcome = await player.play(line.seq === attach.seq ? { ...line } : line);
    if ('skip' in outcome) throw new Error(outcome.skip);
    if ('differs' in outcome) throw new Error(outcome.differs.field);
    const changed = line.seq === attach.seq ? { ...line, out: { pt_id: 99 } } : line;
    const found = firstDifference(changed, outcome);
    if (line.seq === attach.seq) expect(found).toEqual({ field: 'out.pt_id', expected: '99', got: String(attach.out!['pt_id']) });
    else expect(found).toBeNull();
  }
});

test('a call that nobody plays is said, not passed over', async () => {
  const [line] = parseTrace('x.jsonl', '{"seq":1,"call":"VFIO_IOMMU_DIRTY_PAGES","phase":"BODY","proc":1,"fd":"iommu1","in":{},"out":{},"ret":0,"errno":null}');
  const player = await makePlayer('x.jsonl', [line!]);
  expect(await player.play(line!)).toEqual({ skip: 'nobody plays VFIO_IOMMU_DIRTY_PAGES yet' });
});
