#!/usr/bin/env bash
# Runs trunkline's `echo` example against yamux implementations of other
# projects, each as client and as server:
#
#   go    hashicorp/yamux, as packaged by Debian
#   node  @chainsafe/libp2p-yamux
#
# Usage: run.sh [ECHO_BINARY]   default: build the example
#        run.sh --self-test     the two foreign peers with each other only
#
# Needs a Debian-like system with Node 20 or newer. Installs missing packages.
set -euo pipefail

# Streams and bytes per stream, then an optional flag. --window is passed to
# the foreign peers, --ping to the client.
cases=(
  '1 0'
  '1 1'
  '1 1 --ping'
  '64 70000'
  '256 0'
  '256 10000'
  '2560 100'
  '8 5000000'
  '8 5000000 --window 1048576'
  '1 16777216'
  '1 16777216 --window 1048576'
)
limit=60 # seconds per case

die() {
  echo "interop: $*" >&2
  exit 1
}

ours=${1:-}
if [[ -n $ours && $ours != --self-test ]]; then
  ours=$(realpath -e "$ours")
fi
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
build=$target/interop
logs=$build/logs

# --- Build the peers, outside the source tree ---------------------------------

install_packages() {
  local missing=() sudo=
  command -v go >/dev/null || missing+=(golang-go)
  [[ -d /usr/share/gocode/src/github.com/hashicorp/yamux ]] ||
    missing+=(golang-github-hashicorp-yamux-dev)
  ((${#missing[@]})) || return 0
  [[ $(id -u) == 0 ]] || sudo=sudo
  $sudo apt-get update -qq
  $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

build_go_peer() {
  GO111MODULE=off GOPATH=/usr/share/gocode GOPROXY=off \
    go build -o "$build/go-peer" tests/interop/go/main.go
}

build_node_peer() {
  node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' ||
    die 'Node 20 or newer is required'
  # Installing takes a while, so only do it when the lock file has changed.
  if ! cmp -s tests/interop/node/package-lock.json "$build/node/installed"; then
    mkdir -p "$build/node"
    cp tests/interop/node/package{,-lock}.json "$build/node"
    npm ci --prefix "$build/node" --ignore-scripts --no-audit --no-fund
    cp tests/interop/node/package-lock.json "$build/node/installed"
  fi
  cp tests/interop/node/{package.json,peer.js} "$build/node"
}

rm -rf "$logs"
mkdir -p "$logs"
install_packages
build_go_peer
build_node_peer
if [[ -z $ours ]]; then
  cargo build --release --example echo
  ours=$target/release/examples/echo
fi

# --- Run the cases -------------------------------------------------------------

server_pid=
client_pid=
stop() {
  local pid
  for pid in $client_pid $server_pid; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  client_pid=
  server_pid=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Sets `command` to the command line of a peer.
set_command() {
  case $1 in
    trunkline) command=("$ours") ;;
    go) command=("$build/go-peer") ;;
    node) command=(node "$build/node/peer.js") ;;
  esac
}

# Starts a server and sets `addr` to where it listens.
start_server() {
  local log=$1 i
  shift
  : >"$log.out" # it is read before the server may have started
  "$@" >"$log.out" 2>"$log.err" &
  server_pid=$!
  for ((i = 0; i < 100; i++)); do
    addr=$(sed -n '1s/^listening //p' "$log.out")
    [[ -z $addr ]] || return 0
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.1
  done
  reason='server did not start'
  return 1
}

# Runs one case. On failure, sets `reason` and returns non-zero.
run_case() {
  local client=$1 server=$2 log=$3 streams=$4 bytes=$5 flag=${6:-} value=${7:-}
  local command client_args=() server_args=() status=0

  case $flag in
    --window)
      [[ $client == trunkline ]] || client_args=("$flag" "$value")
      [[ $server == trunkline ]] || server_args=("$flag" "$value")
      ;;
    --ping) client_args=("$flag") ;;
  esac

  set_command "$server"
  start_server "$log.server" "${command[@]}" listen 127.0.0.1:0 "${server_args[@]}" || return 1

  set_command "$client"
  timeout -k 5 "$limit" "${command[@]}" connect "$addr" \
    --streams "$streams" --bytes "$bytes" "${client_args[@]}" \
    >"$log.client.out" 2>"$log.client.err" &
  client_pid=$!
  wait "$client_pid" || status=$?
  client_pid=

  if ((status == 124)); then
    reason="timed out after $limit s"
  elif ((status != 0)); then
    reason="client exited with $status"
  elif ! grep -q "^ok streams=$streams bytes=$bytes\b" "$log.client.out"; then
    reason='client did not report ok'
  elif [[ $flag == --ping ]] && ! grep -q '^ping ' "$log.client.out"; then
    reason='client did not report a ping'
  elif ! kill -0 "$server_pid" 2>/dev/null; then
    reason='server exited'
  else
    return 0
  fi
  return 1
}

# How a peer is called in the report: both foreign peers have two roles.
label() {
  [[ $1 == trunkline ]] && echo "$1" || echo "$1-$2"
}

passed=0
failed=0
run_pair() {
  local client=$1 server=$2 spec fields name log reason
  for spec in "${cases[@]}"; do
    read -ra fields <<<"$spec"
    name="$(label "$client" client) -> $(label "$server" server)"
    name+=" ${fields[0]}x${fields[1]} ${fields[*]:2}"
    name=${name% }
    log=$logs/${name//[^a-z0-9]/_}

    if run_case "$client" "$server" "$log" "${fields[@]}"; then
      echo "ok $name"
      passed=$((passed + 1))
    else
      echo "FAILED $name: $reason"
      failed=$((failed + 1))
      tail -n 20 "$log".*.err >&2
    fi
    stop
  done
}

if [[ $ours == --self-test ]]; then
  run_pair go go
  run_pair node node
  run_pair go node
  run_pair node go
else
  run_pair trunkline go
  run_pair go trunkline
  run_pair trunkline node
  run_pair node trunkline
fi

echo "interop: $passed passed, $failed failed"
((failed == 0))
