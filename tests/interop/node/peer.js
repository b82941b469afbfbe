// Interop peer on js-libp2p's yamux, over a plain TCP socket.
//
//   peer.js listen  ADDR [--window W]
//   peer.js connect ADDR --streams N --bytes B [--seed S] [--window W] [--ping]
//
// The server echoes every stream until the client half-closes it. The client
// checks that each stream returns exactly the bytes it sent.

import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import { yamux } from '@chainsafe/libp2p-yamux'

// How many streams may be live at once: the accept backlog customary in yamux.
// Peers may reset streams that exceed it.
const MAX_LIVE = 256
// How long the client waits without any progress before it gives up.
const STALL_AFTER_MS = 20_000

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    streams: { type: 'string', default: '1' },
    bytes: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    window: { type: 'string' },
    ping: { type: 'boolean', default: false }
  }
})
const [command, address] = positionals

try {
  switch (command) {
    case 'listen':
      await runServer(parseAddress(address))
      break
    case 'connect':
      await runClient(parseAddress(address))
      break
    default:
      throw new Error('usage: peer.js listen|connect ADDR [options]')
  }
} catch (err) {
  fail(err.message)
}

function fail (reason) {
  console.error(reason)
  process.exit(1)
}

function parseAddress (address = '') {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) }
}

// Starts a session on a connected socket. `ended` settles when the session has
// written everything it had to write.
function startSession (socket, direction, onIncomingStream) {
  // The library reports protocol errors to its logger only.
  const log = Object.assign(() => {}, { trace: () => {}, error: console.error })
  const config = { direction, onIncomingStream }
  if (values.window !== undefined) {
    // Windows start at 256 KiB and grow up to this. The initial size is left
    // alone, as the library would not announce a larger one to its peer.
    config.maxStreamWindowSize = Number(values.window)
  }

  const muxer = yamux()({ logger: { forComponent: () => log } }).createStreamMuxer(config)
  socket.setNoDelay(true)
  muxer.sink(socket)
  const ended = pipeline(async function * () {
    for await (const frame of muxer.source) {
      yield frame.subarray()
    }
  }, socket)
  return { muxer, ended }
}

async function runServer (address) {
  const server = createServer(socket => {
    const { ended } = startSession(socket, 'inbound', stream => {
      stream.sink(stream.source).catch(err => {
        console.error('stream %s: %s', stream.id, err.message)
      })
    })
    ended.catch(err => { console.error('session: %s', err.message) })
  })
  server.listen(address)
  await once(server, 'listening')
  console.log(`listening ${server.address().address}:${server.address().port}`)
}

async function runClient (peer) {
  const count = Number(values.streams)
  const size = Number(values.bytes)
  const seed = Number(values.seed)

  const socket = connect(peer)
  await once(socket, 'connect')
  console.log(`connected ${address}`)

  const { muxer, ended } = startSession(socket, 'outbound')
  ended.catch(err => fail(`session: ${err.message}`))
  const stall = setTimeout(() => {
    fail(`no progress for ${STALL_AFTER_MS / 1000}s, ${muxer.streams.length} streams open in the library`)
  }, STALL_AFTER_MS)

  if (values.ping) {
    console.log(`ping ${await muxer.ping()}ms`)
  }

  // Every worker opens its first stream before any of them waits.
  let next = 0
  const worker = async () => {
    while (next < count) {
      await exchange(muxer, size, seed + next++, stall)
    }
  }
  await Promise.all(Array.from({ length: Math.min(count, MAX_LIVE) }, worker))

  clearTimeout(stall)
  await muxer.close()
  await ended
  console.log(`ok streams=${count} bytes=${size}`)
}

// Sends `size` bytes, half-closes the stream and checks the echo. It sends and
// receives concurrently: once both windows are full, a peer that echoes reads
// no more until its echo is read.
async function exchange (muxer, size, seed, stall) {
  const stream = muxer.newStream()
  const random = xorshift32(seed)
  const payload = randomBytes(size, random)

  // `sink` sends a FIN when its source ends. If the stream is reset, reading
  // reports it too, so either may come first.
  const sent = stream.sink(chunks(payload, random))
  const received = (async () => {
    let got = 0
    for await (const list of stream.source) {
      const data = list.subarray()
      if (!payload.subarray(got, got + data.length).equals(data)) {
        throw new Error(`stream ${stream.id}: wrong echo after ${got} of ${size} bytes`)
      }
      got += data.length
      stall.refresh()
    }
    // A lost connection ends the stream like a FIN does.
    if (got < size || muxer.isClosed()) {
      throw new Error(`stream ${stream.id}: ended after ${got} of ${size} bytes`)
    }
  })()
  await Promise.all([sent, received])
}

// Chunks from 1 byte to 128 KiB, with every magnitude equally likely.
function * chunks (payload, random) {
  for (let at = 0; at < payload.length;) {
    const size = 1 + random() % (1 << (random() % 18))
    yield payload.subarray(at, at + size)
    at += size
  }
}

function randomBytes (size, random) {
  const words = new Uint32Array(Math.ceil(size / 4))
  for (let i = 0; i < words.length; i++) {
    words[i] = random()
  }
  return Buffer.from(words.buffer, 0, size)
}

function xorshift32 (seed) {
  let x = (Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b) >>> 0 || 1
  return () => {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    return x >>>= 0
  }
}
