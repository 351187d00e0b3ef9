// The licences of what is in the bundle, word for word, and where to get the sources: dist/licences.txt.

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

const ALLOWED = new Set(['Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'ISC', 'MIT', 'MPL-2.0']);

/** The texts that each package brings: which of its files are licences, and what they do not say. */
const TEXTS = {
  '@novnc/novnc': {
    files: ['LICENSE.txt', 'AUTHORS', 'docs/LICENSE.MPL-2.0', 'vendor/pako/LICENSE'],
    source: (version) => `Not changed; some of its files are left out. Its sources: https://github.com/novnc/noVNC/tree/v${version} (core and vendor), and the package
${tarball('@novnc/novnc', version)}
Its images and fonts are not used.`,
  },
  '@xterm/xterm': {
    files: ['LICENSE'],
    source: (version) => `Its sources: https://github.com/xtermjs/xterm.js/tree/${version}, and the package
${tarball('@xterm/xterm', version)}
It has parts of Visual Studio Code in it: Copyright (c) Microsoft Corporation, under the same licence.`,
  },
  '@xterm/addon-fit': {
    files: ['LICENSE'],
    source: (version) => `Its sources: https://github.com/xtermjs/xterm.js (addons/addon-fit), and the package
${tarball('@xterm/addon-fit', version)}`,
  },
};

/** The usual head of a file, that says no more than the licence of the package. */
const KNOWN = /^\/\*\s*\* noVNC: HTML5 VNC client\s*\* Copyright \(C\) \d+ The noVNC authors\s*\* Licensed under MPL 2.0/i;

const RULE = '='.repeat(78);
const tarball = (name, version) => `https://registry.npmjs.org/${name}/-/${name.split('/')[1]}-${version}.tgz`;
const read = (file) => readFileSync(file, 'utf8').replace(/\r\n/g, '\n').trimEnd();

/** The packages that a bundle's modules are of; its own ones are below src/. */
function bundled(modules) {
  const names = modules
    .filter((id) => id.includes('/node_modules/'))
    .map((id) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(id)[1]);
  return [...new Set(names)].sort();
}

/** The comments at the head of a package's modules that name a holder of rights of their own, each once. */
function heads(name, modules) {
  const comments = modules
    .filter((id) => id.includes(`/node_modules/${name}/`))
    .flatMap((id) => [...read(id).matchAll(/\/\*[\s\S]*?\*\//g)].map(([comment]) => comment))
    .filter((comment) => /copyright \(c\)|@license/i.test(comment) && !KNOWN.test(comment));
  return [...new Set(comments)].sort();
}

/** `{text, packages: [{name, version, licence}]}`; an unknown package or licence is an error. */
export function notices(modules, lock) {
  const packages = bundled(modules).map((name) => {
    const { version, license: licence } = lock.packages[`node_modules/${name}`];
    if (!ALLOWED.has(licence)) throw new Error(`${name}: licence ${licence} is not among ${[...ALLOWED].join(', ')}`);
    if (!TEXTS[name]) throw new Error(`${name}: say in notices.mjs what its licences are`);
    return { name, version, licence };
  });
  const parts = packages.map(({ name, version, licence }) => {
    const { files, source } = TEXTS[name];
    const dir = path.join('node_modules', name);
    for (const file of files) if (!existsSync(path.join(dir, file))) throw new Error(`${name}: no ${file}`);
    const texts = files.map((file) => `---- ${name}/${file}\n\n${read(path.join(dir, file))}\n`);
    const comments = heads(name, modules);
    const own = comments.length > 0 ? [`---- ${name}: at the head of its files\n\n${comments.join('\n\n')}\n`] : [];
    return `${RULE}\n${name} ${version} (${licence})\n${RULE}\n\n${source(version)}\n\n${[...texts, ...own].join('\n')}`;
  });
  const intro = `berth's page in the browser is under the Apache License 2.0, as berth is. It has these packages in it, bundled and
minified:

${packages.map(({ name, version, licence }) => `  ${name} ${version} (${licence})`).join('\n')}
`;
  return { text: [intro, ...parts].join('\n'), packages };
}
