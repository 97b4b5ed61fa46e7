import { describe, expect, test } from 'vitest';
import { dataRaces } from '#src/check/data-race';
import { trace } from './trace.ts';

const racesOf = (text: string): string[] =>
  dataRaces(trace(text), ({ label }) => label === 'entry').map(({ first, second }) => `${first.actor} ${first.op} / ${second.actor} ${second.op} ${second.label}`);

describe('a race is found in an execution that took both accesses in a harmless order', () => {
  test('a write and a read that nothing orders', () => {
    expect(racesOf('0 WRITE w; 1 READ w')).toEqual(['0 WRITE / 1 READ w']);
  });

  test('a read and a later write', () => {
    expect(racesOf('0 READ w; 1 WRITE w')).toEqual(['0 READ / 1 WRITE w']);
  });

  test('two writes, one of them under a lock that the other does not take', () => {
    expect(racesOf('0 LOCK x; 0 WRITE w; 0 UNLOCK x; 1 WRITE w')).toEqual(['0 WRITE / 1 WRITE w']);
  });

  test('a plain write and an atomic load', () => {
    expect(racesOf('0 WRITE w; 1 LOAD w')).toEqual(['0 WRITE / 1 LOAD w']);
  });

  test('a word that was published, and then written once more', () => {
    expect(racesOf('0 WRITE w; 0 STORE flag 1; 0 WRITE w; 1 LOAD flag 1; 1 READ w')).toEqual(['0 WRITE / 1 READ w']);
  });
});

describe('no race is found', () => {
  test('between sections of one lock', () => {
    expect(racesOf('0 LOCK x; 0 WRITE w; 0 UNLOCK x; 1 LOCK x; 1 READ w; 1 UNLOCK x')).toEqual([]);
  });

  test('where one publishes and the other has seen it, directly or by a third', () => {
    expect(racesOf('0 WRITE w; 0 STORE flag 1; 1 LOAD flag 1; 1 STORE other 1; 2 LOAD other 1; 2 READ w')).toEqual([]);
  });

  test('between atomic operations, between reads, and within one actor', () => {
    expect(racesOf('0 STORE w 1; 1 STORE w 2; 0 READ v; 1 READ v; 0 WRITE u; 0 READ u')).toEqual([]);
  });

  test('on a word that is plain on purpose', () => {
    expect(racesOf('0 WRITE entry; 1 READ entry')).toEqual([]);
  });

  test('between what a block was and what is made of it after it was freed', () => {
    expect(racesOf('0 WRITE w@4096; 0 WRITE free@4096; 1 WRITE v@4096')).toEqual([]);
  });
});

test('a race is told once for each pair of actors and kinds of access', () => {
  expect(racesOf('0 WRITE w; 1 READ w; 1 READ w; 0 WRITE w')).toEqual(['0 WRITE / 1 READ w', '1 READ / 0 WRITE w']);
});
