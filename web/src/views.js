// What of the page is seen: screen, serial line or both; the facts; full screen. And the way out of a console by keyboard.

/** What this browser remembers for this page, and not for another VM's below another path. */
export const store = {
  get(name) {
    try {
      return JSON.parse(localStorage.getItem(`berth:${location.pathname}:${name}`)) ?? undefined;
    } catch {
      return undefined;
    }
  },
  set(name, value) {
    try {
      localStorage.setItem(`berth:${location.pathname}:${name}`, JSON.stringify(value));
    } catch {
      // Storage is off, or full: then it is not remembered.
    }
  },
};

const element = (id) => document.getElementById(id);

export class Views {
  constructor({ screen, serial }, consoles) {
    this.consoles = consoles;
    this.radios = [...document.querySelectorAll('input[name=view]')];
    if (!screen || !serial) element('views').hidden = true;
    const only = (screen && !serial && 'screen') || (!screen && 'serial');
    const last = store.get('view');
    this.#show(only || (this.radios.some(({ value }) => value === last) ? last : 'screen'));
    for (const radio of this.radios) {
      radio.addEventListener('change', () => {
        this.#show(radio.value);
        store.set('view', radio.value);
      });
    }
    this.#panel();
    this.#fullScreen();
    this.#wayOut();
  }

  /** Keys go where the user looks. */
  focus() {
    const { screen, serial } = this.consoles;
    (this.view === 'serial' ? serial : screen)?.focus();
  }

  #show(view) {
    this.view = view;
    element('consoles').dataset.view = view;
    for (const radio of this.radios) radio.checked = radio.value === view;
  }

  #panel() {
    const button = element('panel');
    const show = (is) => {
      button.setAttribute('aria-expanded', String(is));
      element('facts').hidden = !is;
    };
    show(store.get('facts') !== false);
    button.addEventListener('click', () => {
      const is = element('facts').hidden;
      show(is);
      store.set('facts', is);
    });
  }

  #fullScreen() {
    const button = element('full');
    button.hidden = !document.fullscreenEnabled;
    button.addEventListener('click', async () => {
      await element('consoles').requestFullscreen();
      this.focus();
    });
  }

  /**
   * A console takes every key, Tab too (WCAG 2.1.2): Ctrl+Alt+Shift+M gives the focus back to the page. Not before the keys are up
   * again, or the guest would never see them come up.
   */
  #wayOut() {
    let leaving = false;
    const down = (event) => {
      if (event.code !== 'KeyM' || !event.ctrlKey || !event.altKey || !event.shiftKey) return;
      event.preventDefault();
      event.stopImmediatePropagation();
      leaving = true;
    };
    const up = (event) => {
      if (leaving && event.code === 'KeyM') event.stopImmediatePropagation();
      if (!leaving || event.ctrlKey || event.altKey || event.shiftKey) return;
      leaving = false;
      // After the console had this event, too.
      setTimeout(() => (document.querySelector('input[name=view]:checked') ?? element('panel')).focus(), 0);
    };
    window.addEventListener('keydown', down, true);
    window.addEventListener('keyup', up, true);
  }
}
