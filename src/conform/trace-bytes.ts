/** Byte strings as recordings write them: hexadecimal digits, or `{ len, fill }` for more than 16 equal bytes. */
import type { TraceFields, TraceValue } from './trace-file.ts';

/** Null for what is no byte string. */
export function bytesOf(value: TraceValue | undefined): Uint8Array | null {
  if (typeof value === 'string') return Uint8Array.from(value.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
  const { len, fill } = value as TraceFields;
  return new Uint8Array(Number(len)).fill(Number.parseInt(String(fill), 16));
}

export const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

export function told(bytes: Uint8Array): TraceFields | string {
  const [first = 0] = bytes;
  return bytes.length > 16 && bytes.every((byte) => byte === first) ? { len: bytes.length, fill: hex(bytes.subarray(0, 1)) } : hex(bytes);
}
