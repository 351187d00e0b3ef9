// What a reader of the serial line has already had, when berth sends the last 64 KiB again at a new attach.

import { join } from './firmware.js';

/** As much as berth keeps. */
export const RING = 64 << 10;
/** A shorter piece may be the same by accident. */
const SURE = 32;

/** The first pieces after an attach come without a pause: those are the replay. */
const QUIET_MS = 50;
const LONGEST_MS = 500;

/** Gathers the replay of an attach from the pieces that it comes in, and hands it to `whole`, once. */
export class Replay {
  #pieces = [];
  #length = 0;
  #started = 0;
  #timer = null;
  #ended = false;

  constructor(whole) {
    this.whole = whole;
  }

  /** Whether `piece` is taken as a part of it. */
  takes(piece) {
    if (this.#ended) return false;
    if (this.#length === 0) this.#started = performance.now();
    this.#pieces.push(piece);
    this.#length += piece.length;
    clearTimeout(this.#timer);
    if (this.#length >= RING || performance.now() - this.#started > LONGEST_MS) this.#end();
    else this.#timer = setTimeout(() => this.#end(), QUIET_MS);
    return true;
  }

  #end() {
    this.#ended = true;
    const bytes = join(this.#pieces);
    this.#pieces = [];
    this.whole(bytes);
  }
}

/**
 * How many bytes at the start of `replay` are the end of `had`: the longest such piece, in linear time by the failure
 * function of Knuth, Morris and Pratt. 0 where it is shorter than what says something.
 */
export function overlap(had, replay) {
  const fail = new Int32Array(replay.length);
  for (let i = 1, k = 0; i < replay.length; i += 1) {
    while (k > 0 && replay[i] !== replay[k]) k = fail[k - 1];
    if (replay[i] === replay[k]) k += 1;
    fail[i] = k;
  }
  let k = 0;
  // A piece as long as the replay can only count where `had` ends with it.
  for (const byte of had.subarray(Math.max(0, had.length - replay.length))) {
    if (k === replay.length) k = fail[k - 1];
    while (k > 0 && byte !== replay[k]) k = fail[k - 1];
    if (byte === replay[k]) k += 1;
  }
  return k >= Math.min(SURE, had.length, replay.length) ? k : 0;
}

/** The last `RING` bytes of a stream. */
export class Tail {
  bytes = new Uint8Array(0);

  push(chunk) {
    const kept = this.bytes.subarray(Math.max(0, this.bytes.length + chunk.length - RING));
    const next = new Uint8Array(kept.length + Math.min(chunk.length, RING));
    next.set(kept);
    next.set(chunk.subarray(Math.max(0, chunk.length - RING)), kept.length);
    this.bytes = next;
  }

  clear() {
    this.bytes = new Uint8Array(0);
  }
}
