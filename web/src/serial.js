// The guest's serial line: xterm on a link of ours.
//
// A serial line has no size: the grid is 80×24, as a getty expects, in letters as large as fit, until "Set size" tells
// the guest another one.

import { FitAddon } from '@xterm/addon-fit';
import { Terminal } from '@xterm/xterm';
import { Softener } from './firmware.js';
import { Link } from './link.js';
import { Replay, Tail, overlap } from './replay.js';

const SCROLLBACK_LINES = 20_000;
const LETTERS_PX = { smallest: 8, usual: 14, largest: 17 };
/** Received and not drawn yet; a guest that writes faster than a browser draws loses the middle, with a mark. */
const BACKLOG_BYTES = 4 << 20;
/** berth takes messages of 64 KiB. */
const CHUNK_BYTES = 16 << 10;
const USUAL_GRID = { cols: 80, rows: 24 };
const THEME = { background: '#14181b', foreground: '#d7dde0', cursor: '#8ec5dd', selectionBackground: '#35505d' };

export class Serial {
  #socket = null;
  #readOnly = false;
  #replaying = false;
  #had = new Tail();
  #softener = new Softener();
  #backlog = 0;
  #skipped = 0;

  constructor(section, store, onLogin) {
    this.glass = section.querySelector('.glass');
    this.store = store;
    this.terminal = new Terminal({
      ...USUAL_GRID,
      ...store.get('grid'),
      cursorBlink: true,
      fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
      fontSize: LETTERS_PX.usual,
      scrollback: SCROLLBACK_LINES,
      scrollOnEraseInDisplay: true,
      theme: THEME,
    });
    this.fit = new FitAddon();
    this.terminal.loadAddon(this.fit);
    this.terminal.open(this.glass);
    // Where tests read what is shown and what is above it.
    section.terminal = this.terminal;
    this.terminal.onData((text) => this.#send(text));
    this.terminal.onBinary((text) => this.#send(Uint8Array.from(text, (c) => c.charCodeAt(0) & 0xff)));
    new ResizeObserver(() => this.#scale()).observe(this.glass);
    this.link = new Link(section, 'serial', (socket) => this.#attach(socket), onLogin);
    this.link.open();
  }

  set readOnly(is) {
    this.#readOnly = is;
    this.terminal.options.disableStdin = is;
    this.terminal.options.cursorBlink = !is;
  }

  set screenReader(is) {
    this.terminal.options.screenReaderMode = is;
  }

  focus() {
    this.terminal.focus();
  }

  /** Makes the grid what fits in letters of the usual size, and types that at the guest. Answers what was typed. */
  setSize() {
    this.terminal.options.fontSize = LETTERS_PX.usual;
    const { cols, rows } = this.fit.proposeDimensions() ?? USUAL_GRID;
    this.terminal.resize(cols, rows);
    this.store.set('grid', { cols, rows });
    const command = `stty rows ${rows} cols ${cols}`;
    this.terminal.focus();
    this.#send(`${command}\n`);
    return command;
  }

  #attach(socket) {
    const replay = new Replay((bytes) => this.#replay(bytes));
    socket.addEventListener('open', () => {
      this.#socket = socket;
    });
    socket.addEventListener('close', () => {
      if (this.#socket === socket) this.#socket = null;
    });
    socket.addEventListener('message', ({ data }) => {
      if (typeof data === 'string') {
        this.#note(data);
        return;
      }
      const bytes = new Uint8Array(data);
      if (!replay.takes(bytes)) this.#live(bytes);
    });
  }

  /** What the terminal has already is left out; where nothing of it is known, all of it comes behind a mark. */
  #replay(bytes) {
    const known = overlap(this.#had.bytes, bytes);
    if (known === 0 && this.#had.bytes.length > 0) {
      this.#note('connected again; what the line had last:');
    }
    // A question of the guest's of long ago (where is the cursor?) is not answered now.
    this.#replaying = true;
    this.#live(bytes.subarray(known), () => {
      this.#replaying = false;
    });
  }

  #live(bytes, drawn = () => {}) {
    if (this.#backlog > BACKLOG_BYTES) {
      this.#skipped += bytes.length;
      this.#had.clear();
      drawn();
      return;
    }
    if (this.#skipped > 0) {
      const skipped = this.#skipped;
      this.#skipped = 0;
      this.#note(`${skipped} bytes skipped: they came faster than this browser draws`);
    }
    this.#had.push(bytes);
    this.#backlog += bytes.length;
    this.terminal.write(this.#softener.pass(bytes), () => {
      this.#backlog -= bytes.length;
      drawn();
    });
  }

  /** A line of ours among the guest's. What berth saw skipped is not what this terminal had. */
  #note(text) {
    this.#had.clear();
    const line = text.replace(/[^\x20-\x7e]/g, '?').slice(0, 200);
    this.terminal.write(`\x1b[0m\r\n\x1b[7m[${line}]\x1b[0m\r\n`);
  }

  /** Of several terminals on one line the one in use answers what the guest asks terminals. */
  #send(data) {
    const inUse = document.hasFocus() && this.glass.contains(document.activeElement);
    if (this.#readOnly || this.#replaying || !inUse || this.#socket?.readyState !== WebSocket.OPEN) return;
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    for (let at = 0; at < bytes.length; at += CHUNK_BYTES) {
      this.#socket.send(bytes.subarray(at, at + CHUNK_BYTES));
    }
  }

  /** Letters as large as the grid allows. */
  #scale() {
    const { cols, rows, options } = this.terminal;
    const room = this.fit.proposeDimensions();
    if (!room || !Number.isFinite(room.cols)) return;
    const ratio = Math.min((room.cols + 0.9) / cols, (room.rows + 0.9) / rows);
    let size = Math.min(Math.floor(options.fontSize * ratio) + 1, LETTERS_PX.largest);
    for (; size > LETTERS_PX.smallest; size -= 1) {
      options.fontSize = size;
      const fits = this.fit.proposeDimensions();
      if (fits && fits.cols >= cols && fits.rows >= rows) return;
    }
    options.fontSize = LETTERS_PX.smallest;
  }
}
