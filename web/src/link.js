// A WebSocket to one of the guest's consoles, that is opened again after it closed.
//
//   opening ──open──► open ──close──► waiting ──time, "Try now", network──► asking ──session──► opening
//                                        ▲──────────no answer──────────────────┘└─login needed─► stopped

import { LoginNeeded, session } from './session.js';

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** A connection that lasted so long was a good one: the next wait is the first again. */
const GOOD_MS = 5_000;

/** RFC 6455 §7.4.1, for those that a server or a browser gives without a reason. */
const CODES = new Map([
  [1000, 'closed by berth'],
  [1001, 'berth is ending'],
  [1006, 'the connection broke'],
  [1008, 'refused'],
  [1009, 'a message was too large'],
  [1011, 'an error in berth'],
  [1013, 'too many connections'],
]);

/** How long to wait before attempt `n` = 0, 1, …, in ms; `random` in 0…1 spreads those that lost it together. */
export function wait(n, random) {
  return Math.min(FIRST_WAIT_MS * 2 ** n, LONGEST_WAIT_MS) * (0.75 + 0.5 * random);
}

export class Link {
  /**
   * `attach(socket)` is called with each new socket before it opens. `onLogin` when berth wants a token first.
   * `section` has the banner that says what happens.
   */
  constructor(section, path, attach, onLogin) {
    Object.assign(this, { path, attach, onLogin, name: section.getAttribute('aria-label') });
    this.banner = section.querySelector('.banner');
    this.words = this.banner.querySelector('span');
    this.attempts = 0;
    this.timer = null;
    const now = () => this.timer !== null && this.again();
    this.banner.querySelector('button').addEventListener('click', now);
    window.addEventListener('online', now);
  }

  open() {
    const address = new URL(this.path, document.baseURI);
    address.protocol = address.protocol.replace('http', 'ws');
    const socket = new WebSocket(address, ['binary']);
    socket.binaryType = 'arraybuffer';
    let opened = null;
    socket.addEventListener('open', () => {
      opened = performance.now();
      this.banner.hidden = true;
    });
    socket.addEventListener('close', (event) => {
      if (opened !== null && performance.now() - opened > GOOD_MS) this.attempts = 0;
      // A browser says no more of one that was refused: the guest may not have started, say.
      const why = opened === null ? 'not there yet' : CODES.get(event.code);
      this.later(event.reason || why || `closed with code ${event.code}`);
    });
    this.attach(socket);
  }

  later(why) {
    const ms = wait(this.attempts, Math.random());
    this.attempts = Math.min(this.attempts + 1, 10);
    const until = performance.now() + ms;
    clearInterval(this.timer);
    const tick = () => {
      const left = until - performance.now();
      if (left <= 0) this.again();
      else this.say(`${why}. Trying again in ${Math.ceil(left / 1000)} s.`);
    };
    this.timer = setInterval(tick, 250);
    tick();
  }

  async again() {
    clearInterval(this.timer);
    this.timer = null;
    this.say('connecting again…');
    try {
      const { login } = await session();
      if (login) throw new LoginNeeded();
    } catch (error) {
      if (error instanceof LoginNeeded) this.onLogin();
      else this.later('berth does not answer');
      return;
    }
    this.open();
  }

  say(words) {
    const text = `${this.name}: ${words}`;
    if (this.words.textContent !== text) this.words.textContent = text;
    this.banner.hidden = false;
  }
}
