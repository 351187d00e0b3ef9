// The parts of the page that need no browser: `make web` runs them. The page itself is driven by tests/support/browser.

import assert from 'node:assert/strict';
import test from 'node:test';
import { duration, facts, size, state } from '../src/facts.js';
import { Softener, join } from '../src/firmware.js';
import { wait } from '../src/link.js';
import { RING, Tail, overlap } from '../src/replay.js';
import { keys, type } from '../src/typing.js';

const bytes = (text) => new TextEncoder().encode(text);

/** By the definition: the longest end of `had` that `replay` begins with. */
function longest(had, replay) {
  for (let k = Math.min(had.length, replay.length); k > 0; k -= 1) {
    if (had.subarray(had.length - k).every((byte, i) => byte === replay[i])) return k;
  }
  return 0;
}

test('what a terminal had is found in the replay', () => {
  const stream = bytes(Array.from({ length: 20_000 }, (_, i) => `line ${i}\r\n`).join(''));
  const tail = new Tail();
  for (let at = 0; at < 150_000; at += 7_001) tail.push(stream.subarray(at, Math.min(at + 7_001, 150_000)));
  assert.equal(tail.bytes.length, RING);
  assert.deepEqual(tail.bytes, stream.subarray(150_000 - RING, 150_000));
  // Some came while the connection was away, none did, and more than is kept did.
  assert.equal(overlap(tail.bytes, stream.subarray(160_000 - RING, 160_000)), RING - 10_000);
  assert.equal(overlap(tail.bytes, stream.subarray(150_000 - RING, 150_000)), RING);
  assert.equal(overlap(tail.bytes, stream.subarray(150_000 - 5_000, 150_000)), 5_000);
  assert.equal(overlap(tail.bytes, stream.subarray(150_000, 150_000 + RING)), 0);
});

test('another stream is another one, and a short piece is no proof', () => {
  assert.equal(overlap(bytes('x'.repeat(100) + '# '), bytes('# ' + 'y'.repeat(100))), 0);
  assert.equal(overlap(bytes(''), bytes('boot')), 0);
  assert.equal(overlap(bytes('boot'), bytes('')), 0);
  assert.equal(overlap(bytes('login: '), bytes('login: ')), 7);
});

test('the overlap is the longest there is, of repetitive bytes too', () => {
  for (let round = 0; round < 2_000; round += 1) {
    const random = (n) => Uint8Array.from({ length: n }, () => (Math.random() < 0.7 ? 97 : 98));
    const had = random(1 + Math.floor(Math.random() * 80));
    const replay = random(1 + Math.floor(Math.random() * 80));
    const k = longest(had, replay);
    assert.equal(overlap(had, replay), k >= Math.min(32, had.length, replay.length) ? k : 0);
  }
  assert.equal(overlap(new Uint8Array(RING), new Uint8Array(RING)), RING);
});

test('a full reset becomes a soft one, wherever the stream is cut', () => {
  const stream = bytes('panic\x1bc\x1b[2J\x1b[0mSeaBIOS \x1b\x1bc\x1b[31mcc\x1bd');
  const soft = '\x1b[?1049l\x1b[!p\x1b[2J\x1b[H';
  const wanted = `panic${soft}\x1b[2J\x1b[0mSeaBIOS \x1b${soft}\x1b[31mcc\x1bd`;
  for (let size = 1; size <= stream.length; size += 1) {
    const softener = new Softener();
    const out = [];
    for (let at = 0; at < stream.length; at += size) out.push(softener.pass(stream.subarray(at, at + size)));
    assert.equal(new TextDecoder().decode(join(out)), wanted, `in pieces of ${size}`);
  }
});

test('every character of a US keyboard has a key, and others are named', () => {
  const ascii = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i)).join('');
  const { keys: found, missing } = keys(`${ascii}\n\t`);
  assert.deepEqual(missing, []);
  assert.equal(found.length, 97);
  const places = new Set(found.map(({ code, shift }) => `${code} ${shift}`));
  assert.equal(places.size, 97);
  assert.deepEqual(keys('ä€ä').missing, ['ä', '€']);
});

test('no key stays down, also when typing is stopped', async () => {
  const down = new Set();
  const press = (keysym, code, is) => (is ? down.add(code) : down.delete(code), true);
  const stop = new AbortController();
  const n = await type(keys('aBcD').keys, press, stop.signal, (at) => at === 2 && stop.abort());
  assert.equal(n, 2);
  assert.deepEqual([...down], []);
  assert.equal(await type(keys('x').keys, () => false, new AbortController().signal, () => {}), 0);
});

test('waits grow from half a second to 15, and are not the same for all', () => {
  assert.equal(wait(0, 0.5), 500);
  assert.equal(wait(3, 0.5), 4_000);
  for (const n of [5, 10, 100]) assert.equal(wait(n, 0.5), 15_000);
  assert.ok(wait(0, 0) < wait(0, 1));
});

test('facts are said as a person reads them', () => {
  assert.deepEqual([59, 61, 3_660, 90_061].map(duration), ['less than a minute', '1 min', '1 h 1 min', '1 d 1 h']);
  assert.deepEqual([0, 1023, 1536, 700 << 20].map(size), ['0 B', '1023 B', '1.5 KiB', '700 MiB']);
  const told = { version: '1.2.3', verb: 'vm', ready: false, guest: { phase: 'paused', reason: 'no space' }, network: null };
  assert.deepEqual(facts(told), [['Guest', 'paused: no space'], ['Network', 'no berth net serves here'], ['berth', 'vm 1.2.3']]);
  assert.deepEqual(state(told), ['paused', 'bad']);
  assert.deepEqual(state({ ready: true, guest: { phase: 'running' }, network: { serving: 'serving' } }), ['running', 'good']);
  assert.deepEqual(state({ ready: false, guest: { phase: 'running' }, network: { serving: 'failing' } }), ['network failing', 'bad']);
});
