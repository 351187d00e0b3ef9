// A reverse proxy as people have one: the page below a path, the Host as the browser says it. And it can break, as they do.

import http from 'node:http';
import net from 'node:net';

export class Proxy {
  #server;
  #sockets = new Set();
  #broken = false;

  /** `target`: the page's own address; `below`: `/a/b/`, that is left out of what is passed on. */
  constructor(target, below) {
    this.target = new URL(target);
    this.below = below;
    this.#server = http.createServer((asked, answer) => this.#pass(asked, answer));
    this.#server.on('upgrade', (asked, socket, head) => this.#join(asked, socket, head));
    this.#server.on('connection', (socket) => {
      if (this.#broken) socket.destroy();
      this.#hold(socket);
    });
  }

  /** Listens, and answers the address of the page here. */
  async start() {
    await new Promise((done) => this.#server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${this.#server.address().port}${this.below}`;
  }

  /** All connections end, and no other is taken until `is` is false. */
  break(is) {
    this.#broken = is;
    if (is) for (const socket of this.#sockets) socket.destroy();
  }

  stop() {
    this.break(true);
    this.#server.close();
  }

  #hold(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }

  /** The path there; undefined for what is not below the path here. */
  #path(url) {
    return url.startsWith(this.below) ? this.target.pathname + url.slice(this.below.length) : undefined;
  }

  #pass(asked, answer) {
    const path = this.#path(asked.url);
    if (path === undefined) {
      answer.writeHead(404).end('not below the path');
      return;
    }
    const { hostname, port } = this.target;
    const passed = http.request({ hostname, port, path, method: asked.method, headers: asked.headers }, (reply) => {
      answer.writeHead(reply.statusCode, reply.rawHeaders);
      reply.pipe(answer);
    });
    passed.on('error', () => answer.destroy());
    asked.pipe(passed);
  }

  #join(asked, socket, head) {
    const path = this.#path(asked.url);
    if (path === undefined) {
      socket.destroy();
      return;
    }
    const there = net.connect(Number(this.target.port), this.target.hostname, () => {
      const lines = [`${asked.method} ${path} HTTP/1.1`];
      for (let i = 0; i < asked.rawHeaders.length; i += 2) lines.push(`${asked.rawHeaders[i]}: ${asked.rawHeaders[i + 1]}`);
      there.write(`${lines.join('\r\n')}\r\n\r\n`);
      there.write(head);
      there.pipe(socket).pipe(there);
    });
    this.#hold(there);
    there.on('close', () => socket.destroy());
    socket.on('close', () => there.destroy());
  }
}
