#!/usr/bin/env bash
# The request/reply example against nng's own tool, over TCP and Unix sockets, in both roles.
#
#   tests/interop/nng.sh target/release/examples/reqrep
#
# Needs nngcat (Debian: nng-utils; installed here where that is possible), and for the long runs
# Python with pynng (left out where pip cannot get it).
set -euo pipefail
reqrep=$(realpath "$1")
cd "$(dirname "$0")"
work=$(mktemp -d)
started=()
cleanup() {
  for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

if ! command -v nngcat >/dev/null; then
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  $sudo apt-get update -qq && $sudo apt-get install -y -qq nng-utils >/dev/null
fi

fail() { echo "nng.sh: $*" >&2; exit 1; }

# Starts the example and waits for its address.
serve() {
  "$reqrep" "$@" >"$work/out" &
  started+=($!)
  for _ in $(seq 100); do
    address=$(sed -n 's/^listening //p' "$work/out")
    [ -n "$address" ] && return
    sleep 0.1
  done
  fail "no address from: $*"
}

stop() { kill "${started[-1]}" && wait "${started[-1]}" 2>/dev/null || true; unset 'started[-1]'; }

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

for listen in tcp://127.0.0.1:0 "ipc://$work/rep.sock"; do
  serve rep "$listen"
  for text in hello "" x; do
    reply=$(timeout 20 nngcat --req --dial "$address" --data "$text" --raw)
    [ "$reply" = "$text" ] || fail "$address: nngcat got '$reply' for '$text'"
  done
  head -c 1048572 /dev/urandom >"$work/large"
  timeout 20 nngcat --req --dial "$address" --file "$work/large" --raw >"$work/reply"
  cmp "$work/large" "$work/reply" || fail "$address: 1 MiB came back otherwise"
  stop
  echo "ok: nngcat asks over ${listen%%:*}"
done

# nngcat answers with one text, so the request is that text: the example's first of 0 bytes.
for dial in "tcp://127.0.0.1:$(free_port)" "ipc://$work/req.sock"; do
  nngcat --rep --listen "$dial" --data "" >/dev/null &
  started+=($!)
  timeout 60 "$reqrep" req "$dial" --count 10000 --size 0 | grep -x "ok count=10000 size=0" >/dev/null \
    || fail "$dial: the example got no replies from nngcat"
  stop
  echo "ok: nngcat answers 10,000 times over ${dial%%:*}"
done

# Dialled the other way round.
dial="tcp://127.0.0.1:$(free_port)"
"$reqrep" req "$dial" --count 100 --size 0 --listen >"$work/req" &
started+=($!)
asking=$!
sleep 0.3
nngcat --rep --dial "$dial" --data "" >/dev/null &
started+=($!)
wait "$asking" || fail "nngcat dialled, and no requests came"
stop
echo "ok: nngcat dials and answers"

if ! python3 -c 'import pynng' 2>/dev/null; then
  python3 -m venv "$work/venv" 2>/dev/null && "$work/venv/bin/pip" -q install pynng 2>/dev/null || {
    echo "skipped: no pynng"
    exit 0
  }
  PATH="$work/venv/bin:$PATH"
fi
python3 nng/rounds.py "$reqrep" "$work"
