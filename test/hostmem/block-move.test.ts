import { expect, test } from 'vitest';
import { moveBytes } from '#hostmem/block-move';

const shared = (sizeBytes: number): Uint8Array => new Uint8Array(new SharedArrayBuffer(sizeBytes));
const numbered = (sizeBytes: number): Uint8Array => shared(sizeBytes).map((_, index) => (index * 7 + 1) & 255);

test('as many bytes are moved as were asked for, to where they were asked for, and nothing around them changes', () => {
  const from = numbered(4096);
  for (const [at, sizeBytes] of [[0, 4096], [4096, 4096], [100, 1], [4095, 2], [8191, 1], [0, 0], [1024, 3072]] as const) {
    const to = shared(8192).fill(0xee);
    moveBytes(to, at, from, sizeBytes);
    const expected = new Uint8Array(8192).fill(0xee);
    expected.set(from.slice(0, sizeBytes), at);
    expect(Buffer.compare(to, expected), `${sizeBytes} bytes to ${at}`).toBe(0);
  }
});

test('bytes go between shared memory and a thread\'s own', () => {
  const own = new Uint8Array(4096);
  const from = numbered(4096);
  moveBytes(own, 0, from, 4096);
  const back = shared(4096);
  moveBytes(back, 0, own, 4096);
  expect(Buffer.compare(back, from)).toBe(0);
});

test('what does not fit is refused, and nothing is written', () => {
  const to = shared(4096);
  expect(() => moveBytes(to, 1, numbered(4096), 4096)).toThrow(RangeError);
  expect(Buffer.compare(to, shared(4096))).toBe(0);
});
