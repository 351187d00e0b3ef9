// What the page asks of berth by HTTP. Every address is relative: the page may be below any path.

const SECOND = 1000;
/** An answer that takes longer does not come. */
const PATIENCE = 10 * SECOND;
/** A backup takes as long as its target does. */
const DAY = 86_400 * SECOND;

/** berth wants a token, and this browser has none. */
export class LoginNeeded extends Error {}

/** An answer other than 2xx; `message` is its first line. */
export class Refused extends Error {
  constructor(status, text) {
    super(text.split('\n', 1)[0].slice(0, 300) || `berth answered ${status}`);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const signal = AbortSignal.timeout(PATIENCE);
  const response = await fetch(path, { cache: 'no-store', credentials: 'same-origin', signal, ...options });
  if (response.status === 401) throw new LoginNeeded('a token is needed');
  if (!response.ok) throw new Refused(response.status, await response.text());
  return response;
}

/** `{vm, version, read_only, login, screen, serial}`. */
export const session = async () => (await request('session')).json();
export const status = async () => (await request('status')).json();
export const log = async () => (await request('log')).text();
export const screenshot = async () => (await request('screenshot.png')).blob();
export const logout = () => request('logout', { method: 'POST' });

/** `what`: power, reset or nmi. */
export const press = (what) => request(what, { method: 'POST' });

/** suspend, backup or resize: may take minutes. `body`: what goes with it. What berth says of it. */
export async function order(what, body) {
  const signal = AbortSignal.timeout(DAY);
  const response = await request(what, { method: 'POST', body: new URLSearchParams(body), signal });
  return (await response.text()).trim();
}

/** Whether the token is the right one; the cookie comes with the answer. */
export async function login(token) {
  try {
    await request('login', { method: 'POST', body: new URLSearchParams({ token }) });
    return true;
  } catch (error) {
    if (error instanceof LoginNeeded) return false;
    throw error;
  }
}
