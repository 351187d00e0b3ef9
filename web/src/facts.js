// What berth tells of itself: `./status` and `./log`, asked each two seconds while somebody looks.

import { LoginNeeded, log, status } from './session.js';

const EVERY_MS = 2_000;
const KIB = 1024;

const element = (id) => document.getElementById(id);

/** 90061 → "1 d 1 h"; to the minute, so that it does not jump each two seconds. */
export function duration(secs) {
  const minutes = Math.floor(secs / 60);
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes % 60} min`;
  return minutes > 0 ? `${minutes} min` : 'less than a minute';
}

/** 1536 → "1.5 KiB". */
export function size(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, unit] = [bytes, 0];
  for (; value >= KIB && unit < units.length - 1; unit += 1) value /= KIB;
  return `${unit > 0 && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** A moment of today by its time, an older one by its date too. */
export function moment(ms) {
  const date = new Date(ms);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString('sv', today ? { timeStyle: 'medium' } : { dateStyle: 'short', timeStyle: 'short' });
}

const because = (what, reason) => (reason ? `${what}: ${reason}` : what);

function healed({ rules_restored: rules, links_mended: links, addresses_changed: addresses }) {
  const parts = [[rules, 'rules'], [links, 'links'], [addresses, 'addresses']].filter(([n]) => n > 0);
  return parts.length > 0 ? parts.map(([n, what]) => `${what} ${n}×`).join(', ') : 'nothing so far';
}

/** Lines `[name, value]` for a status; a fact that is not told has none. */
export function facts({ verb, version, ready, reasons = [], guest, network, unconfined = [] }) {
  const lines = [];
  if (guest) {
    lines.push(['Guest', because(guest.phase, guest.reason)]);
    if (guest.started_ms) lines.push(['Up for', duration((Date.now() - guest.started_ms) / 1000)]);
    if (guest.accelerator) lines.push(['Accelerator', guest.accelerator === 'kvm' ? 'KVM' : 'TCG (emulation)']);
  }
  if (!ready) for (const reason of reasons) lines.push(['Not ready', reason]);
  if (network) {
    lines.push(['Network', because(network.serving, network.reason)]);
    if (network.ipv4) lines.push(['IPv4', network.ipv4]);
    if (network.ipv6) lines.push(['IPv6', network.ipv6]);
    if (network.own?.length > 0) lines.push(["Guest's own", network.own.join('\n')]);
    if (network.leased_ms) lines.push(['Address given', moment(network.leased_ms)]);
    lines.push(['Put right', healed(network)]);
  } else if (verb === 'vm') {
    lines.push(['Network', 'no berth net serves here']);
  }
  for (const what of unconfined) lines.push(['Not confined', what]);
  lines.push(['berth', `${verb} ${version}`]);
  return lines;
}

/** The word for the pill, and how it looks. */
export function state({ ready, guest, network }) {
  if (guest && guest.phase !== 'running') return [guest.phase, guest.phase === 'paused' ? 'bad' : 'busy'];
  if (network?.serving === 'failing') return ['network failing', 'bad'];
  return ready ? ['running', 'good'] : ['not ready', 'busy'];
}

/** Hours to seconds instead of a whole date: `2026-11-30T14:01:12.331Z` → `14:01:12`. */
const shorter = (text) => text.replace(/^\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)(?:\.\d+)?Z?/gm, '$1');

export class Facts {
  #shown = '';
  #timer = null;
  #asking = false;

  constructor(onLogin) {
    this.onLogin = onLogin;
    document.addEventListener('visibilitychange', () => this.#next(0));
    this.#next(0);
  }

  #next(ms) {
    clearTimeout(this.#timer);
    if (!document.hidden) this.#timer = setTimeout(() => this.#ask(), ms);
  }

  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const [told, lines] = await Promise.all([status(), log()]);
      this.#show(told);
      this.#log(shorter(lines.trimEnd()));
    } catch (error) {
      if (error instanceof LoginNeeded) {
        this.onLogin();
        return;
      }
      this.#pill('no answer', 'bad');
      element('list').classList.add('old');
    } finally {
      this.#asking = false;
    }
    this.#next(EVERY_MS);
  }

  #pill(word, look) {
    const pill = element('state');
    if (pill.textContent !== word) pill.textContent = word;
    pill.className = `pill ${look}`;
  }

  #show(told) {
    this.#pill(...state(told));
    this.#fetch(told.fetch);
    element('list').classList.remove('old');
    const lines = facts(told);
    // Loopback counts as safe; http:// to a pod's address does not.
    if (!window.isSecureContext) lines.push(['Connection', 'not encrypted: others on the way can read screen and keys']);
    // A list that is made again loses the selection: only where something changed.
    const text = JSON.stringify(lines);
    if (text === this.#shown) return;
    this.#shown = text;
    const nodes = lines.flatMap(([name, value]) => {
      const [dt, dd] = [document.createElement('dt'), document.createElement('dd')];
      dt.textContent = name;
      dd.textContent = value;
      return [dt, dd];
    });
    element('list').replaceChildren(...nodes);
  }

  /** `{bytes, size}` while an image is fetched; its server may not have said the size. */
  #fetch(fetch) {
    element('fetch').hidden = !fetch;
    if (!fetch) return;
    const bar = element('progress');
    if (fetch.size) {
      bar.max = fetch.size;
      bar.value = fetch.bytes;
    } else {
      bar.removeAttribute('value');
    }
    const share = fetch.size ? ` of ${size(fetch.size)}, ${Math.floor((100 * fetch.bytes) / fetch.size)} %` : '';
    element('fetched').textContent = size(fetch.bytes) + share;
  }

  #log(text) {
    const pre = element('log');
    if (pre.textContent === text) return;
    const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 8;
    pre.textContent = text;
    if (atEnd) pre.scrollTop = pre.scrollHeight;
  }
}
