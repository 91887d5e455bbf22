// A server and a client of gRPC, made with @grpc/grpc-js. The server serves and logs the calls that
// ../grpcpeer does, and the client makes them.
'use strict';

const crypto = require('node:crypto');
const grpc = require('@grpc/grpc-js');
const { parse, wait, logger, fail } = require('./flags');

const kinds = ['unary', 'up', 'down', 'both', 'push', 'cancel', 'fail'];
const downs = 20; // messages that answer one of a call that the server streams
const pushes = 3; // messages that a server pushes behind each
const same = (bytes) => bytes;

const options = parse({ listen: '', log: '', pause: 0, call: '', name: '', rounds: 10,
  kinds: kinds.join(',') });

// handler returns what serves the calls of a kind.
function handler(kind, note) {
  return async (call) => {
    const [name] = call.metadata.get('name');
    const entry = { Name: String(name), Messages: 0, Hash: '', Early: 0, End: '' };
    const asked = [];
    let answered = 0;
    let wake = () => {};
    const ended = (how) => {
      entry.End ||= how;
      wake();
    };
    call.on('data', (message) => {
      if ((kind === 'both' || kind === 'cancel') && answered < entry.Messages) {
        entry.Early++;
      }
      entry.Messages++;
      entry.Hash = crypto.createHash('sha256').update(entry.Hash).update(message).digest('hex')
        .slice(0, 16);
      asked.push(message);
      wake();
    });
    call.on('cancelled', () => ended('Canceled'));
    if (kind !== 'cancel') { // else the end comes first
      call.on('end', () => ended('end'));
    }
    let failed = false;
    for (;;) {
      if (asked.length === 0) {
        if (entry.End !== '') {
          break;
        }
        await new Promise((done) => { wake = done; });
        continue;
      }
      const message = asked.shift();
      if (options.pause > 0) {
        await wait(options.pause);
      }
      failed = failed || kind === 'fail';
      const n = { up: 0, down: downs, push: 1 + pushes, fail: 0 }[kind] ?? 1;
      for (let i = 0; i < n; i++) {
        answered++;
        call.write(message);
      }
    }
    note(entry);
    if (failed) {
      call.emit('error', { code: grpc.status.NOT_FOUND, details: 'there is none' });
      return;
    }
    if (kind === 'up') {
      call.write(Buffer.from('all of them'));
    }
    call.end();
  };
}

function serve() {
  const server = new grpc.Server();
  const note = logger(options.log);
  const methods = {};
  const handlers = {};
  for (const kind of kinds) {
    methods[kind] = { path: `/test.Peer/${kind}`, requestStream: true, responseStream: true,
      requestSerialize: same, requestDeserialize: same, responseSerialize: same,
      responseDeserialize: same };
    handlers[kind] = handler(kind, note);
  }
  server.addService(methods, handlers);
  server.bindAsync(`0.0.0.0${options.listen}`, grpc.ServerCredentials.createInsecure(),
    (err) => err && fail(err));
}

// reader returns a function that awaits the next message of a call; null is its end.
function reader(call, kind) {
  const have = [];
  let wake = () => {};
  let failure;
  const put = (message) => {
    have.push(message);
    wake();
  };
  call.on('data', put);
  call.on('end', () => put(null));
  call.on('error', (err) => {
    const wanted = { fail: grpc.status.NOT_FOUND, cancel: grpc.status.CANCELLED }[kind];
    if (err.code !== wanted) {
      failure = err;
    }
    put(null);
  });
  return async () => {
    while (have.length === 0) {
      await new Promise((done) => { wake = done; });
    }
    if (failure) {
      throw failure;
    }
    return have.shift();
  };
}

async function makeCall(client, kind, i) {
  const metadata = new grpc.Metadata();
  metadata.set('name', `${options.name}/${kind}/${i}`);
  const call = client.makeBidiStreamRequest(`/test.Peer/${kind}`, same, same, metadata,
    { deadline: Date.now() + 120_000 });
  const next = reader(call, kind);
  const messages = { both: 10, cancel: 10, push: 5, up: 20 }[kind] ?? 1;
  const answers = { push: 0, up: 0, fail: 0, down: downs }[kind] ?? 1;
  for (let n = 0; n < messages; n++) {
    const message = Buffer.from(`${kind}.${i}.${n} `.repeat(1 + ((i * n * 37) % 2000)));
    call.write(message);
    for (let k = 0; k < answers; k++) {
      const got = await next();
      if (got === null || !got.equals(message)) {
        throw new Error(`${kind} ${i}: message ${n} has another answer`);
      }
    }
    if (kind === 'push') {
      await wait(10); // the server goes on meanwhile
    }
  }
  if (kind === 'cancel') {
    call.cancel();
  } else {
    call.end();
  }
  while (await next() !== null) { /* to the end */ }
}

async function callAll() {
  const client = new grpc.Client(options.call, grpc.credentials.createInsecure());
  await Promise.all(options.kinds.split(',').map(async (kind) => {
    for (let i = 0; i < options.rounds; i++) {
      await makeCall(client, kind, i);
    }
  }));
  client.close();
}

if (options.listen) {
  serve();
} else {
  callAll().catch(fail);
}
