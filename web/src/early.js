// The first question, asked before anything else is loaded: noVNC's modules wait for a codec of the browser before they are there.

import { session } from './session.js';

export const asked = session();
// Who waits for it says so; nobody does yet.
asked.catch(() => {});
