// Builds the page of src/ and of the packages of package-lock.json into dist/: `make web`. The same sources give the same bytes.
//
//   dist/*.gz       what berth embeds, as it is sent: Content-Encoding gzip
//   dist/assets.rs  their table, for include!: path, Content-Type, bytes; below /assets/ another content has another path
//   dist/manifest   what was built of what: SHA-256 of each source and each result, packages with licences
//
// Compressed by pako, not by node's zlib: that differs from one node to the next.

import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { nodeResolve } from '@rollup/plugin-node-resolve';
import { gzip } from 'pako';
import { rollup } from 'rollup';
import { minify } from 'terser';
import { notices } from './notices.mjs';

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
process.chdir(here);

const read = (file) => readFileSync(file, 'utf8');
const sha256 = (content) => createHash('sha256').update(content).digest('hex');
const SHORT = 12;
const hashed = (name, extension, content) => `assets/${name}-${sha256(content).slice(0, SHORT)}.${extension}`;

/**
 * Whole files of noVNC that are left out, for their size: berth's screen has no authentication of VNC's, QEMU sends no H.264, and
 * the page sends no clipboard. Nothing is changed in those that are there (MPL-2.0).
 */
const LEFT_OUT = ['core/crypto/crypto.js', 'core/ra2.js', 'core/decoders/h264.js', 'core/deflator.js'];
const leaveOut = {
  name: 'leave-out',
  async resolveId(source, importer, options) {
    const found = await this.resolve(source, importer, { ...options, skipSelf: true });
    const is = found && LEFT_OUT.some((file) => found.id.endsWith(`/@novnc/novnc/${file}`));
    return is ? path.resolve('src/absent.js') : found;
  },
};

async function script() {
  const onwarn = (warning) => {
    throw new Error(`rollup: ${warning.message}`);
  };
  const bundle = await rollup({ input: 'src/main.js', plugins: [leaveOut, nodeResolve({ browser: true })], onwarn });
  const { output } = await bundle.generate({ format: 'es', inlineDynamicImports: true });
  await bundle.close();
  const [chunk] = output;
  const { code } = await minify(chunk.code, {
    module: true,
    ecma: 2022,
    compress: { passes: 2 },
    format: { comments: false, preamble: "/* berth's page. Licences, and where to get the sources of what is in it: ../licences */" },
  });
  return { code: `${code}\n`, modules: chunk.moduleIds };
}

/** Without comments and indentation. */
const style = () =>
  (read('node_modules/@xterm/xterm/css/xterm.css') + read('src/style.css'))
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/\s*\n\s*/g, '\n')
    .trim();

const { code, modules } = await script();
const css = style();
const { text: licences, packages } = notices(modules, JSON.parse(read('package-lock.json')));
const names = { script: hashed('page', 'js', code), style: hashed('page', 'css', css) };
const html = read('src/index.html').replace('%SCRIPT%', names.script).replace('%STYLE%', names.style);

// Path below the page's address, file, content type, content.
const assets = [
  ['', 'index.html', 'text/html; charset=utf-8', html],
  [names.script, 'page.js', 'text/javascript; charset=utf-8', code],
  [names.style, 'page.css', 'text/css; charset=utf-8', css],
  ['licences', 'licences.txt', 'text/plain; charset=utf-8', licences],
];

rmSync('dist', { recursive: true, force: true });
mkdirSync('dist');
const built = [];
const put = (file, content) => {
  writeFileSync(path.join('dist', file), content);
  built.push(['built', sha256(content), `dist/${file}`]);
};
for (const [, file, , content] of assets) put(`${file}.gz`, gzip(Buffer.from(content), { level: 9 }));
const row = ([where, file, type]) => `    Asset { path: "/${where}", kind: "${type}", gzip: include_bytes!("${file}.gz") },\n`;
put('assets.rs', `// Written by \`make web\`, for include!.\n[\n${assets.map(row).join('')}]\n`);

const sources = ['build.mjs', 'notices.mjs', 'package.json', 'package-lock.json', ...readdirSync('src').map((name) => `src/${name}`)];
const lines = [
  ...sources.sort().map((file) => ['source', sha256(readFileSync(file)), file]),
  ...packages.map(({ name, version, licence }) => ['package', name, version, licence]),
  ...built,
];
writeFileSync('dist/manifest', lines.map((line) => `${line.join(' ')}\n`).join(''));

let total = 0;
for (const [where, file, , content] of assets) {
  const sent = readFileSync(`dist/${file}.gz`).length;
  total += sent;
  console.log(`${(where || './').padEnd(30)} ${String(Buffer.byteLength(content)).padStart(7)} bytes, gzip ${String(sent).padStart(6)}`);
}
console.log(`in all, gzip ${total}`);
