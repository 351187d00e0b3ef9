// Drives berth's page in a real browser, and prints what was seen as one JSON object; for tests.
//
//   node drive.mjs http://127.0.0.1:6080/ [--token TOKEN] [--pictures DIR] [--steps NAME,NAME…]
//
// The guest has a shell on its serial line. CHROMIUM names another browser than `chromium`. A step that fails is an `error` in its result,
// and ends the program with 1; wrong words end it with 2.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { Chromium, pause, until } from './chromium.mjs';
import { Proxy } from './proxy.mjs';

const FRAME_MS = 60_000;
const LINE_MS = 30_000;
const REBOOT_MS = 150_000;
/** What the tiny guest says when it is up. */
const UP = ' ready';

/** What the serial line's terminal has, scrolled away or not. */
const SERIAL = `(() => {
  const { buffer } = document.getElementById('serial').terminal;
  return Array.from({ length: buffer.active.length }, (_, i) => buffer.active.getLine(i).translateToString(true)).join('\\n');
})()`;

/** Whether a line is there that is `text` and nothing else: not the echo of a command that has it. */
const hasLine = (text) => `${SERIAL}.split('\\n').some((line) => line.trim() === ${JSON.stringify(text)})`;

const show = (page, view) => page.click(`input[name=view][value=${view}]`);

async function frame(page) {
  await page.until('window.firstFrame > 0', FRAME_MS);
  return Math.round(await page.evaluate('window.firstFrame'));
}

/** Types a line at the serial line, and answers after how many ms the answer was there. */
async function run(page, command, answer) {
  await show(page, 'serial');
  await page.evaluate("document.querySelector('#serial textarea').focus()");
  const started = performance.now();
  await page.press(`${command}\n`);
  await page.until(hasLine(answer), LINE_MS);
  return Math.round(performance.now() - started);
}

/** A number that no other run has, to tell answers apart. */
let last = Math.floor(Math.random() * 1e6) * 100;
const unique = () => {
  last += 1;
  return last;
};

const STEPS = {
  /** A browser that has never been here, then the same again with its cache. */
  async frame({ page, address }) {
    await page.open(address);
    const coldMs = await frame(page);
    await page.reload();
    const warmMs = await frame(page);
    const [width, height] = await page.evaluate("(({ width, height }) => [width, height])(document.querySelector('#screen canvas'))");
    await page.until("document.querySelectorAll('#list dt').length > 0");
    return { coldMs, warmMs, width, height, jumped: await page.evaluate('window.jumped') };
  },

  /** A line typed at the serial line, and the answer read from the terminal. */
  async serial({ page }) {
    const n = unique();
    await run(page, `echo $((${n}+1))`, String(n + 1));
    last += 1;
    const m = unique();
    const ms = await run(page, `echo $((${m}+1))`, String(m + 1));
    last += 1;
    return { ms };
  },

  /** What was on the line before a reload is there after it. */
  async reload({ page }) {
    const n = unique();
    await run(page, `for i in 1 2 3 4 5 6 7 8 9; do seq 1 20; done; echo "is $n"${n}`, `is ${n}`);
    await run(page, 'seq 1 60; echo ended', 'ended');
    await page.reload();
    await page.until(hasLine(`is ${n}`), LINE_MS);
    const scrolled = await page.evaluate("document.getElementById('serial').terminal.buffer.active.baseY");
    return { scrolledLines: scrolled };
  },

  /** Two browsers at one guest: both see it, and neither loses its connection. */
  async two({ page, another, address }) {
    await show(page, 'both');
    const other = await another(address);
    await frame(other);
    const before = page.closed;
    const n = unique();
    const ms = await run(other, `echo "both "${n}`, `both ${n}`);
    await page.until(hasLine(`both ${n}`), LINE_MS);
    await pause(1000);
    return { ms, closed: page.closed - before + other.closed, bannersHidden: await page.evaluate("[...document.querySelectorAll('.banner')].every((banner) => banner.hidden)") };
  },

  /** Behind a proxy below a path; nothing is asked for outside of it. Then the proxy breaks: both consoles say so, and go on later. */
  async proxy({ another, address }) {
    const proxy = new Proxy(address, '/a/b/');
    let page;
    try {
      page = await another(await proxy.start());
      await frame(page);
      const n = unique();
      await run(page, `echo "before "${n}`, `before ${n}`);
      const outside = page.requests.filter((path) => !path.startsWith('/a/b/'));
      await show(page, 'both');
      const { length } = page.errors;
      proxy.break(true);
      const banners = "[...document.querySelectorAll('.banner')].filter((banner) => banner.checkVisibility())";
      await page.until(`${banners}.length === 2`);
      const words = await page.evaluate(`${banners}.map((banner) => banner.querySelector('span').textContent)`);
      await pause(2000);
      proxy.break(false);
      const started = performance.now();
      await page.until(`${banners}.length === 0`);
      const againMs = Math.round(performance.now() - started);
      // The browser's own words for what broke.
      page.errors.splice(length);
      await run(page, `echo "after "${n}`, `after ${n}`);
      const times = (text) => page.evaluate(`${SERIAL}.split('\\n').filter((line) => line.trim() === '${text}').length`);
      return { outside, words, againMs, before: await times(`before ${n}`), after: await times(`after ${n}`) };
    } finally {
      if (page) await page.close();
      proxy.stop();
    }
  },

  /** "Type text…", seen by the guest's keyboard driver: evdev codes of keys that went down (linux/input-event-codes.h). */
  async keys({ page }) {
    const n = unique();
    // struct input_event on 64 bits: 16 octets of time, type, code, value. Type 1 is a key, value 1 is down.
    const words = `hexdump -v -e '24/1 "%02x " "\\n"'`;
    await run(page, `(timeout 30 cat /dev/input/event0 > /tmp/keys.${n} &) ; sleep 1; echo "reads "${n}`, `reads ${n}`);
    await show(page, 'screen');
    await page.click('#type');
    await page.evaluate("document.getElementById('text').focus()");
    await page.send('Input.insertText', { text: 'aB-?' });
    const started = performance.now();
    await page.click('#send');
    await page.until("document.getElementById('typed').textContent === '4 keys typed.'");
    const typedMs = Math.round(performance.now() - started);
    await page.click('#stop');
    const shell = `sleep 1; echo "downs" $(${words} /tmp/keys.${n} | sed -n 's/^.\\{48\\}01 00 \\(..\\) 00 01 00 00 00 *$/\\1/p') "of "${n}`;
    await show(page, 'serial');
    await page.evaluate("document.querySelector('#serial textarea').focus()");
    await page.press(`${shell}\n`);
    const line = await (async () => {
      const wanted = new RegExp(`^downs (.*)of ${n}$`, 'm');
      await page.until(`/^downs .*of ${n}$/m.test(${SERIAL})`, LINE_MS);
      return wanted.exec(await page.evaluate(SERIAL))[1];
    })();
    return { typedMs, downs: line.trim().split(' ').map((octet) => parseInt(octet, 16)) };
  },

  /** Ctrl-Alt-Del, which Linux without an init of its own answers with a reboot: `words` come again on the serial line. */
  async reboot({ page, words }) {
    await show(page, 'screen');
    const count = `${SERIAL}.split(${JSON.stringify(words)}).length`;
    const before = await page.evaluate(count);
    await page.click('#cad');
    const started = performance.now();
    await page.until(`${count} > ${before}`, REBOOT_MS);
    return { ms: Math.round(performance.now() - started) };
  },

  /** The reset button, and its question. */
  async reset({ page, words }) {
    const count = `${SERIAL}.split(${JSON.stringify(words)}).length`;
    const before = await page.evaluate(count);
    await page.click('#reset');
    await page.until("document.getElementById('ask').open && document.activeElement.textContent === 'Cancel'");
    await page.click('#yes');
    await page.until("document.getElementById('note').textContent === 'The guest was reset.'");
    await page.until(`${count} > ${before}`, REBOOT_MS);
    return {};
  },

  /** The power button: the guest goes down after it. */
  async power({ page }) {
    await page.click('#power');
    await page.click('#yes');
    await page.until("document.getElementById('note').textContent === 'Power button pressed.'");
    return {};
  },

  /** Each console takes all keys but one chord, which leads out of it; and a page that nobody looks at asks nothing. */
  async focus({ page }) {
    const left = {};
    for (const view of ['screen', 'serial']) {
      await show(page, view);
      // A click that meets the view of a moment ago is lost.
      await until(`the focus in the ${view}`, FRAME_MS, async () => {
        await page.click(`#${view} .glass`);
        await pause(200);
        return page.evaluate(`document.getElementById('${view}').contains(document.activeElement)`);
      });
      for (const type of ['keyDown', 'keyUp']) {
        const keys = [['Control', 'ControlLeft', 2], ['Alt', 'AltLeft', 1], ['Shift', 'ShiftLeft', 8], ['M', 'KeyM', 0]];
        let modifiers = type === 'keyDown' ? 0 : 11;
        for (const [key, code, bit] of type === 'keyDown' ? keys : keys.reverse()) {
          modifiers = type === 'keyDown' ? modifiers | bit : modifiers & ~bit;
          await page.send('Input.dispatchKeyEvent', { type, key, code, modifiers });
        }
      }
      await page.until("document.activeElement.name === 'view'");
      left[view] = true;
    }
    await page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true }), document.dispatchEvent(new Event('visibilitychange'))");
    await pause(1000);
    const { length } = page.requests;
    await pause(5000);
    const askedWhileHidden = page.requests.length - length;
    await page.evaluate("delete document.hidden, document.dispatchEvent(new Event('visibilitychange'))");
    await until('the status is asked again', 10_000, () => page.requests.slice(length).some((path) => path.endsWith('/status')));
    return { left, askedWhileHidden };
  },

  /** The picture in the dialog has the screen's size. */
  async screenshot({ page }) {
    await show(page, 'screen');
    await page.click('#shot');
    await page.until("document.getElementById('image').naturalWidth > 0");
    const [width, height] = await page.evaluate("(({ naturalWidth, naturalHeight }) => [naturalWidth, naturalHeight])(document.getElementById('image'))");
    await page.click('#picture button');
    return { width, height };
  },

  /** What the page shows, and what a person with a screen reader is given: every control has a name. */
  async look({ page }) {
    const facts = await page.evaluate("[...document.querySelectorAll('#list dt')].map((dt) => [dt.textContent, dt.nextElementSibling.textContent])");
    const nameless = await page.evaluate(`[...document.querySelectorAll('button, input, textarea, select, a')]
      .filter((control) => control.id !== 'yes' && !(control.labels?.length > 0 || control.textContent.trim() || control.getAttribute('aria-label') || control.type === 'hidden'))
      .map((control) => control.outerHTML.slice(0, 120))`);
    return {
      title: await page.evaluate('document.title'),
      state: await page.evaluate("document.getElementById('state').textContent"),
      facts: Object.fromEntries(facts),
      logLines: await page.evaluate("document.getElementById('log').textContent.split('\\n').length"),
      viewOnly: await page.evaluate("(({ checked, disabled }) => ({ checked, disabled }))(document.getElementById('viewonly'))"),
      buttonsOff: await page.evaluate("[...document.querySelectorAll('button.acts:disabled')].map(({ id }) => id)"),
      nameless,
    };
  },
};

/** These change what the guest does: only where they are named. */
const ON_DEMAND = ['reboot', 'reset', 'power'];

/** The form is shown, refuses a wrong token, and takes the right one. */
async function logIn(page, address, token) {
  await page.open(address);
  await page.until("document.getElementById('login').checkVisibility()");
  const enter = async (text) => {
    await page.evaluate("document.getElementById('token').select()");
    await page.send('Input.insertText', { text });
    await page.press('\n');
  };
  await enter(`${token}x`);
  await page.until("document.getElementById('refused').textContent.length > 0");
  const refused = await page.evaluate("document.getElementById('refused').textContent");
  // A browser's own word for the 401 that was asked for.
  await pause(200);
  page.errors = page.errors.filter((error) => !/401/.test(error));
  await enter(token);
  await page.until("document.getElementById('page').checkVisibility()");
  return { refused };
}

async function main(address, { token, pictures, steps }) {
  const chromium = new Chromium();
  const pages = [];
  const another = async (where) => {
    const page = await chromium.page();
    pages.push(page);
    if (token) await logIn(page, where, token);
    else await page.open(where);
    return page;
  };
  const result = {};
  const step = async (name, action) => {
    try {
      result[name] = await action();
    } catch (error) {
      result[name] = { error: error.message };
      process.exitCode = 1;
    }
    if (pictures && pages[0]) writeFileSync(path.join(pictures, `${name}.png`), await pages[0].picture());
  };
  try {
    const page = await chromium.page();
    pages.push(page);
    if (token) await step('login', () => logIn(page, address, token));
    for (const name of steps) {
      await step(name, () => STEPS[name]({ page, another, address, words: UP }));
      // Without a page there is nothing more to see.
      if (result.frame?.error) break;
    }
    const all = (what) => pages.flatMap((one) => one[what]);
    Object.assign(result, {
      consoleErrors: all('errors'),
      violations: all('violations'),
      foreignRequests: all('foreign'),
    });
  } finally {
    await chromium.close();
  }
  console.log(JSON.stringify(result, null, 2));
}

const usage = `usage: node drive.mjs http://HOST:PORT/PATH/ [--token TOKEN] [--pictures DIR] [--steps ${Object.keys(STEPS).join(',')}]`;
try {
  const options = { token: { type: 'string' }, pictures: { type: 'string' }, steps: { type: 'string' } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const steps = values.steps?.split(',') ?? Object.keys(STEPS).filter((name) => !ON_DEMAND.includes(name));
  if (positionals.length !== 1 || !steps.every((name) => name in STEPS)) throw new Error(usage);
  await main(new URL(positionals[0]).href, { ...values, steps });
} catch (error) {
  console.error(`drive: ${error.message}`);
  process.exitCode ||= 2;
}
