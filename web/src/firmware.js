// Firmware clears the terminal when it starts, and with it why the guest was reset: a kernel's last words. A full reset
// (RIS, ESC c; ECMA-48 §8.3.105) becomes a soft one and a clear screen, which xterm scrolls away instead.

const [ESC, C] = [0x1b, 0x63];
/** Out of the alternate screen, DECSTR, clear, home. */
const SOFT = new TextEncoder().encode('\x1b[?1049l\x1b[!p\x1b[2J\x1b[H');

/** A stream's filter; an ESC at the end of a piece is kept for the next. */
export class Softener {
  #kept = false;

  /** What to draw for a piece of the stream. */
  pass(piece) {
    const out = [];
    const bytes = this.#kept ? join([Uint8Array.of(ESC), piece]) : piece;
    this.#kept = bytes.length > 0 && bytes[bytes.length - 1] === ESC;
    const end = bytes.length - (this.#kept ? 1 : 0);
    let from = 0;
    for (let at = bytes.indexOf(ESC); at >= 0 && at + 1 < end; at = bytes.indexOf(ESC, at + 1)) {
      if (bytes[at + 1] !== C) continue;
      out.push(bytes.subarray(from, at), SOFT);
      from = at + 2;
    }
    out.push(bytes.subarray(from, end));
    return join(out);
  }
}

/** Pieces one after the other. */
export function join(pieces) {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}
