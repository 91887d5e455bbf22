// A server and a client of WebSocket, made with ws, over connections of HTTP/1, or, with -http2 yes,
// over one of HTTP/2.
'use strict';

const crypto = require('node:crypto');
const http2 = require('node:http2');
const { once } = require('node:events');
const { WebSocket, WebSocketServer } = require('ws');
const { parse, wait, logger, fail } = require('./flags');

const options = parse({ listen: '', log: '', pause: 0, push: 0, ping: 0, deflate: 'no', call: '',
  http2: 'no', rounds: 40, messages: 100 });
const perMessageDeflate = options.deflate === 'yes';

// accept serves each connection of WebSocket.
function accept(serveOne) {
  const port = Number(options.listen.slice(1));
  if (options.http2 !== 'yes') {
    const server = new WebSocketServer({ port, perMessageDeflate });
    server.on('connection', (conn, request) => serveOne(conn, request.url));
    return;
  }
  const server = http2.createServer({ settings: { enableConnectProtocol: true } });
  server.on('stream', (stream, headers) => {
    if (headers[':protocol'] !== 'websocket') {
      stream.respond({ ':status': 404 }, { endStream: true });
      return;
    }
    stream.respond({ ':status': 200 });
    serveOne(over(stream, true), headers[':path']);
  });
  server.listen(port);
}

// over returns a connection of WebSocket over a stream of HTTP/2. ws knows none (RFC 8441), but may
// be given any stream.
function over(stream, server) {
  const conn = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30_000 });
  conn._isServer = server;
  conn.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload: 1 << 30 });
  return conn;
}

// serve answers the messages on /lock in order; on /push it sends by itself. It logs each
// connection when it ends.
function serve() {
  const note = logger(options.log);
  accept((conn, url) => {
    const entry = { Path: url, Messages: 0, Hash: '', Early: 0, Code: 0 };
    const lock = url.startsWith('/lock');
    const timers = [];
    let answered = 0;
    let answers = Promise.resolve();
    let ponged = true;
    conn.on('message', (message, binary) => {
      const n = entry.Messages++;
      entry.Early += lock && answered < n ? 1 : 0;
      entry.Hash = crypto.createHash('sha256').update(entry.Hash).update(String(binary))
        .update(message).digest('hex').slice(0, 16);
      if (lock) {
        answers = answers.then(() => wait(options.pause)).then(() => {
          answered++;
          conn.send(String(n));
        });
      }
    });
    conn.on('pong', () => { ponged = true; });
    if (options.ping > 0) {
      timers.push(setInterval(() => {
        if (!ponged) {
          conn.terminate(); // as servers do
        }
        ponged = false;
        conn.ping(entry.Path);
      }, options.ping));
    }
    if (options.push > 0 && !lock) {
      timers.push(setInterval(() => conn.send('push'), options.push));
    }
    conn.on('close', (code) => {
      timers.forEach(clearInterval);
      entry.Code = code;
      note(entry);
    });
    conn.on('error', () => {});
  });
}

// session is the connection of HTTP/2.
let session;

// connect opens a connection.
async function connect(path, deflate) {
  if (options.http2 === 'yes') {
    if (!session) {
      session = http2.connect(`http://${options.call}`);
      session.settled = new Promise((done) => session.once('remoteSettings', done));
    }
    await session.settled;
    const stream = session.request({ ':method': 'CONNECT', ':protocol': 'websocket',
      ':path': path, 'sec-websocket-version': '13' }, { endStream: false });
    const [headers] = await once(stream, 'response');
    if (headers[':status'] !== 200) {
      throw new Error(`${path}: the status ${headers[':status']}`);
    }
    return over(stream, false);
  }
  return new Promise((done, broken) => {
    const conn = new WebSocket(`ws://${options.call}${path}`, { perMessageDeflate: deflate });
    conn.once('open', () => done(conn));
    conn.once('error', broken);
  });
}

// close closes a connection with a code, and waits for its end.
function close(conn, code) {
  return new Promise((done) => {
    conn.once('close', done);
    conn.close(code, 'bye');
  });
}

// lockStep sends messages, each after the answer to the one before, some large and in parts.
async function lockStep(i) {
  const conn = await connect(`/lock/${i}`, i % 2 === 1);
  for (let n = 0; n < options.rounds; n++) {
    const whole = Buffer.alloc(n % 20 === 19 ? 1 << 20 : 1 + 37 * n, String(n));
    const answer = new Promise((done) => conn.once('message', done));
    for (let at = 0; at < whole.length; at += 60_000) {
      const end = Math.min(at + 60_000, whole.length);
      conn.send(whole.subarray(at, end), { binary: n % 2 === 1, fin: end === whole.length });
    }
    const got = String(await answer);
    if (got !== String(n)) {
      throw new Error(`answer ${n}: ${got}`);
    }
  }
  await close(conn, 4000 + options.rounds);
}

// push sends messages while the server pushes.
async function push(i) {
  const conn = await connect(`/push/${i}`, i % 2 === 0);
  for (let n = 0; n < options.messages; n++) {
    await wait(5);
    conn.send(String(n));
  }
  await close(conn, 4100 + i);
}

async function callAll() {
  const all = [];
  for (let i = 0; i < 4; i++) {
    all.push(lockStep(i), push(i));
  }
  await Promise.all(all);
  session?.close();
}

if (options.listen) {
  serve();
} else {
  callAll().catch(fail);
}
