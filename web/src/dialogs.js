// Questions, text to type, pictures: the three dialogs of index.html.

import { keys, type } from './typing.js';

const element = (id) => document.getElementById(id);

/**
 * The answer: null for no, else what was typed under `label`, or '' where there is none to type. Cancel has the focus then, and
 * yes wants a word otherwise.
 */
export function ask(question, consequence, yes, label = '') {
  const [dialog, asked, word] = ['ask', 'asked', 'word'].map(element);
  asked.hidden = label === '';
  asked.querySelector('label').textContent = label;
  word.value = '';
  word.required = label !== '';
  element('question').textContent = question;
  element('consequence').textContent = consequence;
  element('yes').textContent = yes;
  dialog.returnValue = '';
  dialog.showModal();
  if (label !== '') word.focus();
  return new Promise((done) => {
    dialog.addEventListener('close', () => {
      done(dialog.returnValue === 'yes' ? word.value.trim() : null);
    }, { once: true });
  });
}

/** The text that `screen` is to be sent as keys. What was typed is not kept: it may be a password. */
export function typeText(screen) {
  const [dialog, text, typed, send, stop] = ['typing', 'text', 'typed', 'send', 'stop'].map(element);
  const ended = new AbortController();
  const listen = { signal: ended.signal };
  let typing = null;
  const look = () => {
    const { missing } = keys(text.value);
    typed.textContent = missing.length > 0 ? `No key makes ${missing.slice(0, 10).join(' ')}: left out.` : '';
  };
  const start = async () => {
    const { keys: list } = keys(text.value + (element('enter').checked ? '\n' : ''));
    typing = new AbortController();
    send.disabled = true;
    stop.textContent = 'Stop';
    const progress = (n) => {
      typed.textContent = `${n} of ${list.length} keys`;
    };
    const n = await type(list, (...key) => screen.key(...key), typing.signal, progress);
    typing = null;
    send.disabled = false;
    stop.textContent = 'Close';
    typed.textContent = n === list.length ? `${n} keys typed.` : `Stopped after ${n} of ${list.length} keys.`;
  };
  text.value = '';
  typed.textContent = '';
  text.addEventListener('input', look, listen);
  send.addEventListener('click', start, listen);
  stop.addEventListener('click', () => (typing ? typing.abort() : dialog.close()), listen);
  dialog.addEventListener('close', () => {
    typing?.abort();
    ended.abort();
    text.value = '';
    screen.focus();
  }, { once: true });
  dialog.showModal();
  text.focus();
}

/** `blob`: a PNG. */
export function showPicture(blob, vm) {
  const dialog = element('picture');
  const address = URL.createObjectURL(blob);
  const save = element('save');
  element('image').src = address;
  save.href = address;
  save.download = `${vm}-${new Date().toISOString().slice(0, 19).replaceAll(':', '')}.png`;
  dialog.addEventListener('close', () => {
    element('image').removeAttribute('src');
    URL.revokeObjectURL(address);
  }, { once: true });
  dialog.showModal();
}
