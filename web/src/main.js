// The page of one VM: asks who may see it, then joins the consoles, the facts and the buttons.

import { asked } from './early.js';
import { ask, showPicture, typeText } from './dialogs.js';
import { Facts } from './facts.js';
import { Screen } from './screen.js';
import { Serial } from './serial.js';
import { LoginNeeded, login, logout, order, press, screenshot } from './session.js';
import { Views, store } from './views.js';

const NOTE_MS = 6_000;

const element = (id) => document.getElementById(id);
const clicked = (id, action) => element(id).addEventListener('click', action);

let noteTimer = null;
function note(text) {
  clearTimeout(noteTimer);
  element('note').textContent = text;
  noteTimer = setTimeout(() => {
    element('note').textContent = '';
  }, NOTE_MS);
}

/** The cookie ran out, or another tab logged out: everything starts again, behind the form. */
const startAgain = () => window.location.reload();

/** Runs what a button does, and says what came of it. */
async function act(action) {
  try {
    const said = await action();
    if (said) note(said);
  } catch (error) {
    if (error instanceof LoginNeeded) startAgain();
    else note(error.name === 'TimeoutError' ? 'berth does not answer' : error.message);
  }
}

function askForToken() {
  const form = element('login');
  form.hidden = false;
  element('token').focus();
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    element('refused').textContent = '';
    try {
      if (await login(element('token').value)) {
        store.set('loggedin', true);
        // A reload, so that the browser offers to keep the token.
        startAgain();
        return;
      }
      element('refused').textContent = 'That is not the token.';
    } catch {
      element('refused').textContent = 'berth does not answer.';
    }
    element('token').select();
  });
}

const QUESTIONS = {
  power: ['Press the power button?', 'The guest is asked to shut down, as by the button of a computer.', 'Press', 'Power button pressed.'],
  reset: ['Reset the guest?', 'It starts again at once. What it has not written to its disk is lost.', 'Reset', 'The guest was reset.'],
  nmi: ['Send an NMI?', 'A non-maskable interrupt: many kernels dump their memory and stop.', 'Send', 'NMI sent.'],
};

// What is asked, what it means, yes, what is to be typed and its name, what is said while it goes on.
const ORDERS = {
  suspend: ['Suspend the guest?', 'Its memory is written to the volume, and berth ends. The next start goes on from there.', 'Suspend', '', '', 'Suspending the guest…'],
  backup: ['Back up the disks?', 'A copy of what they are now goes to another volume, while the guest runs.', 'Back up', 'File or directory in the container', 'target', 'Backing up…'],
  resize: ['Grow the disk?', 'The guest sees its new size at once. It cannot be made smaller again.', 'Grow', 'Size, as in 20G', 'size', 'Growing the disk…'],
};

function wireOrders() {
  for (const [what, [question, consequence, yes, label, name, meanwhile]] of Object.entries(ORDERS)) {
    clicked(what, () => act(async () => {
      const word = await ask(question, consequence, yes, label);
      if (word === null) return '';
      note(meanwhile);
      return order(what, name ? { [name]: word } : {});
    }));
  }
}

function wireMachine() {
  for (const [what, [question, consequence, yes, done]] of Object.entries(QUESTIONS)) {
    clicked(what, () => act(async () => {
      if (await ask(question, consequence, yes) === null) return '';
      await press(what);
      return done;
    }));
  }
}

/** Read-only is what berth says, or what the user says of this browser. */
function wireViewOnly(readOnly, consoles) {
  const box = element('viewonly');
  box.checked = readOnly || store.get('viewonly') === true;
  box.disabled = readOnly;
  if (readOnly) box.closest('label').title = 'berth is read-only here: BERTH_WEB_READONLY';
  const apply = () => {
    for (const button of document.querySelectorAll('button.acts')) button.disabled = box.checked;
    consoles.screen && (consoles.screen.viewOnly = box.checked);
    consoles.serial && (consoles.serial.readOnly = box.checked);
    consoles.changed();
  };
  box.addEventListener('change', () => {
    store.set('viewonly', box.checked);
    apply();
  });
  apply();
  return box;
}

function start(facts) {
  const { vm, read_only: readOnly } = facts;
  document.title = `${vm} · berth`;
  element('vm').textContent = vm;
  element('page').hidden = false;
  const consoles = { screen: null, serial: null, changed: () => {} };
  const views = new Views(facts, consoles);
  let connected = false;
  let viewOnly = null;
  consoles.changed = () => {
    for (const id of ['cad', 'type']) element(id).disabled = !connected || viewOnly?.checked === true;
  };
  if (facts.screen) {
    const changed = (is) => {
      connected = is;
      consoles.changed();
    };
    consoles.screen = new Screen(element('screen'), changed, startAgain);
  }
  if (facts.serial) consoles.serial = new Serial(element('serial'), store, startAgain);
  viewOnly = wireViewOnly(readOnly, consoles);
  consoles.changed();
  views.focus();

  clicked('cad', () => consoles.screen.ctrlAltDel());
  clicked('type', () => typeText(consoles.screen));
  clicked('shot', () => act(async () => showPicture(await screenshot(), vm)));
  clicked('size', () => note(`Typed: ${consoles.serial.setSize()}`));
  element('reader').addEventListener('change', ({ target }) => {
    consoles.serial.screenReader = target.checked;
  });
  wireMachine();
  wireOrders();
  element('logout').hidden = store.get('loggedin') !== true;
  clicked('logout', () => act(async () => {
    await logout();
    store.set('loggedin', false);
    startAgain();
  }));
  new Facts(startAgain);
}

try {
  const facts = await asked;
  if (facts.login) askForToken();
  else start(facts);
} catch (error) {
  document.body.append(error instanceof LoginNeeded ? 'berth wants a token.' : 'berth does not answer: reload the page to try again.');
  throw error;
}
