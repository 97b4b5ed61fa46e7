/** What a thread of a confidential guest does about its pages: it gives them up to the host's eyes, and takes them back. */
import type { Ref } from '#hostmem/object';
import { errnoOf, type ErrnoName } from '../kernel/errno.ts';
import { allocateShared, convertToPrivate, convertToShared, freeShared, gpaOf } from '../kernel/tvm.ts';
import type { Vm } from './vm.ts';

export class ConfidentialGuest {
  readonly #thread: Vm;
  readonly #name: string;
  readonly #tvm: Ref<'Tvm'>;

  constructor(thread: Vm, name: string) {
    this.#thread = thread;
    this.#name = name;
    this.#tvm = thread.named(`${name}.tvm`) as Ref<'Tvm'>;
  }

  /** The page, by its number, is the guest's alone from now on; EINVAL when it is already. */
  makePrivate(page: number): ErrnoName | null {
    return errnoOf(() => convertToPrivate(this.#thread.kernel, this.#tvm, page));
  }
  /** The host, and devices with T = 0, may see it; EINVAL, EIO when the host refuses. */
  makeShared(page: number): ErrnoName | null {
    return errnoOf(() => convertToShared(this.#thread.kernel, this.#tvm, page));
  }

  /** Pages in a row that the host may see, or the errno. */
  allocateShared(count: number): number | ErrnoName {
    let first = 0;
    return errnoOf(() => void (first = allocateShared(this.#thread.kernel, this.#tvm, count))) ?? first;
  }
  freeShared(first: number, count: number): ErrnoName | null {
    return errnoOf(() => freeShared(this.#thread.kernel, this.#tvm, first, count));
  }

  /** Its own load and store of the first word of a page. */
  load(page: number): number {
    return this.#thread.guestLoad(this.#name, gpaOf(page));
  }
  store(page: number, value: number): void {
    this.#thread.guestStore(this.#name, gpaOf(page), value);
  }
}
