// Text as keys of a US keyboard, for guests that take no clipboard: long passwords at a text console.
//
// The place of a key is sent beside its keysym: QEMU takes the place (its "extended key event"), and what character comes of it
// is the guest's layout.

const KEY_MS = 30;

/** Places from left to right, row by row, with what they make without and with Shift. */
const ROWS = [
  [
    'Backquote Digit1 Digit2 Digit3 Digit4 Digit5 Digit6 Digit7 Digit8 Digit9 Digit0 Minus Equal',
    '`1234567890-=',
    '~!@#$%^&*()_+',
  ],
  ['BracketLeft BracketRight Backslash Semicolon Quote Comma Period Slash', "[]\\;',./", '{}|:"<>?'],
];
const SHIFT = [0xffe1, 'ShiftLeft'];

const KEYS = new Map([
  [' ', { keysym: 0x20, code: 'Space', shift: false }],
  ['\n', { keysym: 0xff0d, code: 'Enter', shift: false }],
  ['\t', { keysym: 0xff09, code: 'Tab', shift: false }],
]);
const put = (character, code, shift) => KEYS.set(character, { keysym: character.charCodeAt(0), code, shift });
for (const [places, plain, shifted] of ROWS) {
  places.split(' ').forEach((code, i) => {
    put(plain[i], code, false);
    put(shifted[i], code, true);
  });
}
for (const letter of 'abcdefghijklmnopqrstuvwxyz') {
  const upper = letter.toUpperCase();
  put(letter, `Key${upper}`, false);
  put(upper, `Key${upper}`, true);
}

/** What of `text` has a key, and the characters that have none, each once. */
export function keys(text) {
  const characters = [...text.replace(/\r\n?/g, '\n')];
  const missing = [...new Set(characters.filter((character) => !KEYS.has(character)))];
  return { keys: characters.filter((character) => KEYS.has(character)).map((character) => KEYS.get(character)), missing };
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/**
 * Presses them one after the other by `press(keysym, code, down)`, which answers whether it could. Tells `progress(n)`, and ends
 * early where `signal` says so. Answers how many were pressed. No key stays down.
 */
export async function type(list, press, signal, progress) {
  for (const [n, { keysym, code, shift }] of list.entries()) {
    if (signal.aborted) return n;
    if (shift) press(...SHIFT, true);
    const sent = press(keysym, code, true);
    await pause(KEY_MS / 2);
    press(keysym, code, false);
    if (shift) press(...SHIFT, false);
    if (!sent) return n;
    progress(n + 1);
    await pause(KEY_MS / 2);
  }
  return list.length;
}
