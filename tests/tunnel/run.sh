#!/usr/bin/env bash
# Runs everyday programs through the `tunnel` example: HTTP with curl, a server
# that speaks first, and redis-benchmark.
#
# Usage: run.sh [TUNNEL_BINARY]   default: build the example in release mode
#
# Needs a Debian-like system with Python 3. Installs missing packages.
set -euo pipefail

step_limit=60 # seconds
start_limit=200 # tenths of a second for a process to listen

die() {
  echo "tunnel: $*" >&2
  exit 1
}

install_packages() {
  local missing=() sudo=
  command -v curl >/dev/null || missing+=(curl)
  command -v redis-server >/dev/null || missing+=(redis-server)
  command -v redis-benchmark >/dev/null || missing+=(redis-tools)
  ((${#missing[@]})) || return 0
  [[ $(id -u) == 0 ]] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive \
    $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

tunnel=${1:-}
[[ -z $tunnel ]] || tunnel=$(realpath -e "$tunnel")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if [[ -z $tunnel ]]; then
  cargo build --release --example tunnel
  tunnel=$(realpath -e "${CARGO_TARGET_DIR:-target}/release/examples/tunnel")
fi
install_packages

work=$(mktemp -d)
declare -A children=() # by process id
finish() {
  local child
  for child in "${!children[@]}"; do
    kill -KILL "$child" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- Processes ----------------------------------------------------------------

# start NAME COMMAND...: in the background; output in $work/NAME.out and .err,
# the process id in $started.
start() {
  local name=$1
  shift
  "$@" >"$work/$name.out" 2>"$work/$name.err" </dev/null &
  started=$!
  children[$started]=$name
}

# await NAME PATTERN: waits for a line of its output; its last word is $word.
await() {
  local name=$1 pattern=$2 line
  for ((i = 0; i < start_limit; i++)); do
    line=$(grep -hm1 -- "$pattern" "$work/$name.out" || true)
    if [[ -n $line ]]; then
      word=${line##* }
      return
    fi
    kill -0 "$started" 2>/dev/null || break
    sleep 0.1
  done
  cat "$work/$name.err" >&2
  die "$name did not say: $pattern"
}

# carry NAME TARGET: a tunnel to TARGET; its local address is $local.
carry() {
  start "$1-server" "$tunnel" server 127.0.0.1:0 --to "$2"
  server=$started
  await "$1-server" '^listening '
  server_addr=$word
  start "$1-client" "$tunnel" client "$server_addr" --listen 127.0.0.1:0
  await "$1-client" '^listening '
  local=$word
  await "$1-client" '^connected '
}

passed=0
failed=0
# step NAME COMMAND...: one line of the report; what the command says goes with it.
# The command runs in this shell, and without -e: its parts are joined by &&.
step() {
  local name=$1 said status=0
  shift
  "$@" >"$work/said" 2>&1 || status=$?
  said=$(<"$work/said")
  if ((status == 0)); then
    passed=$((passed + 1))
    echo "ok      $name${said:+: $said}"
  else
    failed=$((failed + 1))
    echo "FAILED  $name (status $status)${said:+: $said}"
  fi
}

# --- HTTP ---------------------------------------------------------------------

mkdir "$work/files"
echo hello >"$work/files/hello.txt"
: >"$work/files/empty"
head -c 100000 /dev/urandom >"$work/files/small"
head -c 20000000 /dev/urandom >"$work/files/large"
start http python3 -u -c '
import functools, http.server, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
server.request_queue_size = 128
print("listening 127.0.0.1:%d" % server.server_port)
server.serve_forever()
' "$work/files"
await http '^listening '
http=$word
carry http "$http"

fetch() {
  local file=$1 copy
  copy=$(mktemp -p "$work") &&
    timeout "$step_limit" curl -sSf -o "$copy" "http://$local/$file" &&
    [[ $(sha256sum <"$copy") == $(sha256sum <"$work/files/$file") ]]
}
fetch_many() {
  local i pids=() bad=0
  for ((i = 0; i < 32; i++)); do
    fetch small &
    pids+=($!)
  done
  for i in "${pids[@]}"; do
    wait "$i" || bad=$((bad + 1))
  done
  ((bad == 0))
}
absent() {
  [[ $(timeout "$step_limit" curl -sS -o /dev/null -w '%{http_code}' "http://$local/absent") == 404 ]]
}
# A download that stops half way leaves nothing behind that the next one meets.
stopped() {
  { timeout "$step_limit" curl -sf "http://$local/large" || true; } |
    head -c 1000000 | cmp -n 1000000 - "$work/files/large"
}
# The client finds the server again; what runs then waits for it.
restarted() {
  kill -KILL "$server" && { wait "$server" 2>/dev/null || true; }
  unset "children[$server]"
  start http-server2 "$tunnel" server "$server_addr" --to "$http" &&
    await http-server2 '^listening ' &&
    fetch large
}

for file in hello.txt empty small large; do
  step "curl $file" fetch "$file"
done
step 'curl, 32 at once' fetch_many
step 'curl, a file that is not there' absent
step 'curl, stopped half way' stopped
step 'curl large, afterwards' fetch large
step 'curl large, the tunnel server killed and started anew' restarted

# --- A server that speaks first -------------------------------------------------

start banner python3 -u -c '
import socketserver
class Mail(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"220 mail.example ESMTP\r\n")
        for line in self.rfile:
            quit = line.strip().upper() == b"QUIT"
            self.wfile.write(b"221 bye\r\n" if quit else b"250 ok\r\n")
            if quit:
                return
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
server = Server(("127.0.0.1", 0), Mail)
print("listening 127.0.0.1:%d" % server.server_address[1])
server.serve_forever()
'
await banner '^listening '
carry banner "$word"

dialogue() {
  timeout "$step_limit" python3 -c '
import socket, sys
host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port))) as server:
    lines = server.makefile("rb")
    assert lines.readline() == b"220 mail.example ESMTP\r\n"
    for ask, answer in ((b"EHLO me", b"250 ok"), (b"quit", b"221 bye")):
        server.sendall(ask + b"\r\n")
        assert lines.readline() == answer + b"\r\n"
    assert lines.read() == b""
' "$local"
}
# Ends its side at once; the greeting and the answer still come.
half_closed() {
  timeout "$step_limit" python3 -c '
import socket, sys
host, port = sys.argv[1].split(":")
with socket.create_connection((host, int(port))) as server:
    server.sendall(b"NOOP\r\n")
    server.shutdown(socket.SHUT_WR)
    assert server.makefile("rb").read() == b"220 mail.example ESMTP\r\n250 ok\r\n"
' "$local"
}
step 'a server that speaks first' dialogue
step 'a client that finishes first' half_closed

# --- Redis ----------------------------------------------------------------------

# redis-server does not tell which port it was given, so one is found for it.
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
start redis redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$work"
await redis 'Ready to accept connections'
carry redis "127.0.0.1:$port"

benchmark() {
  timeout "$((4 * step_limit))" redis-benchmark -h "${local%:*}" -p "${local##*:}" -q "$@" \
    >"$work/benchmark" 2>&1 || {
    tr '\r' '\n' <"$work/benchmark" | tail -3
    return 1
  }
  local figures errors
  figures=$(tr '\r' '\n' <"$work/benchmark" | grep 'requests per second' || true)
  errors=$(tr '\r' '\n' <"$work/benchmark" | grep -ciE '^(error|could not)' || true)
  [[ -n $figures && $errors == 0 ]] || {
    tr '\r' '\n' <"$work/benchmark" | tail -3
    return 1
  }
  awk '{ for (i = 1; i <= NF; i++) if ($i == "requests") print $(i - 1) }' <<<"$figures" | sort -n |
    awk '{ v[NR] = $1 } END { printf "%d tests, %.0f to %.0f requests per second", NR, v[1], v[NR] }'
}
step 'redis-benchmark, 50 connections' benchmark -n 20000
step 'redis-benchmark, 100 KB values' benchmark -n 2000 -d 100000 -t set,get
step 'redis-benchmark, a connection for each request' benchmark -n 2000 -k 0 -t ping_mbulk

# --- The end --------------------------------------------------------------------

# The last tunnel, interrupted: both ends leave in good order.
interrupted() {
  local client=$started i
  kill -INT "$client"
  for ((i = 0; i < start_limit; i++)); do
    kill -0 "$client" 2>/dev/null || break
    sleep 0.1
  done
  ! kill -0 "$client" 2>/dev/null || return 1
  grep -q 'closed$' "$work/redis-server.err"
}
step 'interrupted, it leaves in good order' interrupted

echo "tunnel: $passed passed, $failed failed"
((failed == 0))
