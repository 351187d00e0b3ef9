// A headless Chromium, driven by its DevTools protocol over two pipes (--remote-debugging-pipe): one JSON object after the other,
// each ended by a zero byte. Needs node and Debian's chromium, and no package of npm's.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

const ANSWER_MS = 60_000;

const FLAGS = [
  '--headless=new', '--remote-debugging-pipe', '--no-first-run', '--no-default-browser-check', '--disable-gpu', '--disable-dev-shm-usage',
  '--disable-background-networking',
  '--disable-background-timer-throttling', '--disable-renderer-backgrounding', '--disable-backgrounding-occluded-windows', '--disable-component-update', '--disable-sync', '--disable-extensions', '--mute-audio',
  '--force-color-profile=srgb', '--hide-scrollbars', '--window-size=1366,800',
];

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until `look()` answers something true, and answers that; throws after `ms`. */
export async function until(what, ms, look) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await pause(15);
  }
}

export class Chromium {
  #process;
  #profile;
  #next = 1;
  #waiting = new Map();
  #pages = new Map();

  constructor(program = process.env.CHROMIUM ?? 'chromium') {
    this.#profile = mkdtempSync(path.join(tmpdir(), 'berth-browser-'));
    // Its sandbox needs another user than root; what is looked at is our own page.
    const sandbox = process.getuid() === 0 ? ['--no-sandbox'] : [];
    const args = [...FLAGS, ...sandbox, `--user-data-dir=${this.#profile}`, 'about:blank'];
    this.#process = spawn(program, args, { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] });
    const fail = (error) => {
      for (const { no } of this.#waiting.values()) no(error);
      this.#waiting.clear();
    };
    this.#process.on('error', (error) => fail(new Error(`${program}: ${error.message}`)));
    this.#process.on('exit', (code) => fail(new Error(`${program} ended with ${code}`)));
    this.#process.stdio[3].on('error', fail);
    let rest = Buffer.alloc(0);
    this.#process.stdio[4].on('data', (data) => {
      rest = Buffer.concat([rest, data]);
      for (let end = rest.indexOf(0); end >= 0; end = rest.indexOf(0)) {
        this.#message(JSON.parse(rest.subarray(0, end).toString()));
        rest = rest.subarray(end + 1);
      }
    });
  }

  #message({ id, sessionId, method, params, result, error }) {
    if (id === undefined) {
      this.#pages.get(sessionId)?.event(method, params);
      return;
    }
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) waiting?.no(new Error(`${waiting.method}: ${error.message}`));
    else waiting?.yes(result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.#next;
    this.#next += 1;
    return new Promise((done, failed) => {
      const timer = setTimeout(() => no(new Error(`${method}: no answer in ${ANSWER_MS} ms`)), ANSWER_MS);
      const yes = (result) => {
        clearTimeout(timer);
        done(result);
      };
      const no = (error) => {
        clearTimeout(timer);
        this.#waiting.delete(id);
        failed(error);
      };
      this.#waiting.set(id, { yes, no, method });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  /** A page of a browser of its own: no cache, cookie or storage of others. */
  async page() {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page((method, params) => this.send(method, params, sessionId));
    this.#pages.set(sessionId, page);
    await page.prepare();
    return page;
  }

  async close() {
    const ended = new Promise((done) => this.#process.once('exit', done));
    await this.send('Browser.close').catch(() => {});
    const timer = setTimeout(() => this.#process.kill('SIGKILL'), 5_000);
    await ended;
    clearTimeout(timer);
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Notes how far things jumped about (https://web.dev/articles/cls), and when the guest's screen was first seen: something on the canvas that is not black. In ms since the navigation. */
const FIRST_FRAME = `{
  window.jumped = 0;
  new PerformanceObserver((list) => {
    for (const { value, hadRecentInput } of list.getEntries()) window.jumped += hadRecentInput ? 0 : value;
  }).observe({ type: 'layout-shift', buffered: true });
  const small = new OffscreenCanvas(64, 48).getContext('2d', { willReadFrequently: true });
  const look = setInterval(() => {
    const canvas = document.querySelector('#screen canvas');
    if (!canvas || canvas.width === 0) return;
    small.drawImage(canvas, 0, 0, 64, 48);
    const { data } = small.getImageData(0, 0, 64, 48);
    if (!data.some((value, i) => i % 4 < 3 && value > 16)) return;
    window.firstFrame = performance.now();
    clearInterval(look);
  }, 10);
}`;

export class Page {
  /** What the page complained about, requests to elsewhere, and WebSockets that were closed. */
  errors = [];
  violations = [];
  foreign = [];
  requests = [];
  closed = 0;

  constructor(send) {
    this.send = send;
  }

  async prepare() {
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await this.send(`${domain}.enable`);
    await this.send('Emulation.setFocusEmulationEnabled', { enabled: true });
    await this.send('Page.addScriptToEvaluateOnNewDocument', { source: FIRST_FRAME });
  }

  event(method, params) {
    if (method === 'Runtime.exceptionThrown') {
      const { text, exception } = params.exceptionDetails;
      this.errors.push(exception?.description ?? text);
    } else if (method === 'Runtime.consoleAPICalled' && ['error', 'warning', 'assert'].includes(params.type)) {
      this.errors.push(params.args.map(({ value, description }) => value ?? description).join(' '));
    } else if (method === 'Log.entryAdded' && ['error', 'warning'].includes(params.entry.level)) {
      const { text, url = '' } = params.entry;
      (/content security policy/i.test(text) ? this.violations : this.errors).push(`${text} ${url}`.trim());
    } else if (method === 'Network.requestWillBeSent' || method === 'Network.webSocketCreated') {
      this.#asked(params.request?.url ?? params.url);
    } else if (method === 'Network.webSocketClosed') {
      this.closed += 1;
    }
  }

  #asked(address) {
    const { protocol, host, pathname } = new URL(address);
    if (['data:', 'blob:', 'about:'].includes(protocol)) return;
    this.requests.push(pathname);
    if (this.host && host !== this.host) this.foreign.push(address);
  }

  async open(address) {
    this.host = new URL(address).host;
    const { errorText } = await this.send('Page.navigate', { url: address });
    if (errorText) throw new Error(`${address}: ${errorText}`);
  }

  reload() {
    return this.send('Page.reload');
  }

  /** The value of an expression in the page; a promise is waited for. */
  async evaluate(expression) {
    const asked = { expression, awaitPromise: true, returnByValue: true, userGesture: true };
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', asked);
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`);
    return result.value;
  }

  /** Waits for an expression to be true in the page. */
  until(expression, ms = 20_000) {
    return until(expression, ms, () => this.evaluate(expression).catch(() => false));
  }

  async click(selector) {
    await this.until(`(() => { const found = document.querySelector('${selector}'); return found && !found.disabled && found.checkVisibility(); })()`);
    await this.evaluate(`document.querySelector('${selector}').scrollIntoView()`);
    const [x, y] = await this.evaluate(
      `(() => { const { x, y, width, height } = document.querySelector('${selector}').getBoundingClientRect(); return [x + width / 2, y + height / 2]; })()`,
    );
    const at = { x, y, button: 'left', clickCount: 1 };
    await this.send('Input.dispatchMouseEvent', { type: 'mousePressed', ...at });
    await this.send('Input.dispatchMouseEvent', { type: 'mouseReleased', ...at });
  }

  /** Keys where the focus is; a newline is Enter. */
  async press(text) {
    for (const character of text) {
      const enter = character === '\n';
      const key = enter ? { key: 'Enter', code: 'Enter', windowsVirtualKeyCode: 13, text: '\r' } : { key: character, text: character };
      await this.send('Input.dispatchKeyEvent', { type: 'keyDown', ...key });
      await this.send('Input.dispatchKeyEvent', { type: 'keyUp', ...key, text: undefined });
    }
  }

  close() {
    return this.send('Page.close');
  }

  async picture() {
    const { data } = await this.send('Page.captureScreenshot', { format: 'png' });
    return Buffer.from(data, 'base64');
  }
}
