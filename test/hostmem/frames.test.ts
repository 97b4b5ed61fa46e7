import { peek, poke } from '#hostmem/atomics';
import { framePoison, Owner } from '#hostmem/frames';
import { Host } from '#hostmem/host';
import { hpaOf, type Frame } from '#hostmem/memory';
import { expect, test } from 'vitest';

const host = () => Host.create(65_536, 1 << 20);

test('a frame is zeroed when it is handed out and poisoned when its last reference goes', () => {
  const { frames, ram } = host();
  const frame = frames.allocate(Owner.firstProcess);
  expect(peek(ram, hpaOf(frame) + 4092)).toBe(0);
  poke(ram, hpaOf(frame) + 4092, 7);
  frames.hold(frame);
  frames.drop(frame);
  expect([peek(ram, hpaOf(frame) + 4092), frames.ownerOf(frame)]).toEqual([7, Owner.firstProcess]);
  frames.drop(frame);
  expect([peek(ram, hpaOf(frame)), peek(ram, hpaOf(frame) + 4092), frames.ownerOf(frame)]).toEqual([framePoison, framePoison, Owner.FREE]);
  expect(frames.allocate(Owner.KERNEL)).toBe(frame);
  expect(peek(ram, hpaOf(frame) + 4092)).toBe(0);
});

test('a frame that comes back is of another generation', () => {
  const { frames } = host();
  const frame = frames.allocate(Owner.KERNEL);
  const generation = frames.generationOf(frame);
  frames.drop(frame);
  frames.allocate(Owner.KERNEL);
  expect(frames.generationOf(frame)).toBe(generation + 1);
});

test('a pin keeps its frame from being freed', () => {
  const { frames } = host();
  const frame = frames.allocate(Owner.firstProcess);
  frames.pin(frame);
  frames.drop(frame);
  expect([frames.pinsOf(frame), frames.ownerOf(frame)]).toEqual([1, Owner.firstProcess]);
  frames.unpin(frame);
  expect([frames.pinsOf(frame), frames.ownerOf(frame)]).toEqual([0, Owner.FREE]);
});

test('a drop, hold or unpin too many is refused, whatever was freed before, and leaves the free frames as they were', () => {
  const { frames } = host();
  const freed = [1, 2, 3, 4].map(() => frames.allocate(Owner.KERNEL));
  for (const frame of freed) frames.drop(frame);
  for (const frame of freed) {
    expect(() => frames.drop(frame)).toThrow(/dropped more often/);
    expect(() => frames.hold(frame)).toThrow(/after it was freed/);
    expect(() => frames.unpin(frame)).toThrow(/unpinned more often/);
  }
  const again = new Set(freed.map(() => frames.allocate(Owner.KERNEL)));
  expect(again).toEqual(new Set(freed));
  expect(() => frames.drop(99 as Frame)).toThrow(/outside RAM/);
  expect(() => frames.drop(0 as Frame)).toThrow(/outside RAM/);
});

test('RAM is used up when every frame but the first is handed out once', () => {
  const { frames } = host();
  const all = new Set<number>();
  for (let frame = frames.allocate(Owner.KERNEL); frame !== 0; frame = frames.allocate(Owner.KERNEL)) all.add(frame);
  expect(all.size).toBe(frames.count - 1);
  expect(frames.inUse).toBe(all.size);
});
