// The guest's screen: noVNC on a link of ours.

import RFB from '@novnc/novnc';
import { Link } from './link.js';

export class Screen {
  #rfb = null;
  #viewOnly = false;

  /** `section` has the glass; `connected(is)` is told when keys can be sent and when not. */
  constructor(section, connected, onLogin) {
    this.glass = section.querySelector('.glass');
    this.connected = connected;
    this.link = new Link(section, 'screen', (socket) => this.#attach(socket), onLogin);
    this.link.open();
  }

  #attach(socket) {
    const rfb = new RFB(this.glass, socket, { shared: true });
    rfb.scaleViewport = true;
    rfb.showDotCursor = true;
    rfb.background = 'transparent';
    rfb.viewOnly = this.#viewOnly;
    rfb.addEventListener('connect', () => this.connected(true));
    rfb.addEventListener('disconnect', () => {
      if (this.#rfb !== rfb) return;
      this.#rfb = null;
      this.connected(false);
    });
    // QEMU is told to ask for no password here. What asks nevertheless is not our QEMU.
    rfb.addEventListener('credentialsrequired', () => socket.close());
    this.#rfb = rfb;
  }

  set viewOnly(is) {
    this.#viewOnly = is;
    if (this.#rfb) this.#rfb.viewOnly = is;
  }

  focus() {
    this.#rfb?.focus();
  }

  ctrlAltDel() {
    this.#rfb?.sendCtrlAltDel();
  }

  /** One key down or up, by its X11 keysym and its place on the keyboard (`KeyboardEvent.code`); false: not sent. */
  key(keysym, code, down) {
    if (!this.#rfb || this.#viewOnly) return false;
    this.#rfb.sendKey(keysym, code, down);
    return true;
  }
}
