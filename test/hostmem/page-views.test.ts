import { allocateBuffer, Memory, Space } from '#hostmem/memory';
import { PageViews } from '#hostmem/page-views';
import { expect, test } from 'vitest';

test('a view is of the frame that was asked for, also when another one was kept in its place', () => {
  const memory = new Memory(allocateBuffer(200 * 4096), Space.RAM);
  for (let frame = 0; frame < 200; frame++) memory.words[frame * 1024 + 5] = frame;
  const pages = new PageViews(memory);
  for (const frame of [0, 64, 128, 0, 63, 127, 191, 63, 64, 64]) {
    const page = pages.of(frame);
    expect([page.length, page[20]]).toEqual([4096, frame]);
  }
});
