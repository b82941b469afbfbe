#!/usr/bin/env bash
# Runs trunkline's `reqrep` example against nng's `nngcat`, each as the side that asks and as the
# side that answers, over TCP and IPC.
#
# Usage: nng.sh REQREP_BINARY
#
# Needs a Debian-like system. Installs nng-utils if `nngcat` is missing.
set -euo pipefail
export LC_ALL=C

ours=$(realpath -e "${1:?usage: nng.sh REQREP_BINARY}")
if ! command -v nngcat >/dev/null; then
  apt-get update -qq && apt-get install -y -qq nng-utils >/dev/null
fi
work=$(mktemp -d)
running=()
cleanup() {
  for pid in "${running[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

passed=0
check() { # name, expected file, got file
  cmp -s "$2" "$3" || { echo "nng: $1: a reply is not what it should be" >&2; exit 1; }
  passed=$((passed + 1))
  echo "ok $1"
}

# A listening reqrep; its address is in $address.
answer() {
  "$ours" rep "$1" >"$work/rep.out" &
  running+=($!)
  for _ in $(seq 100); do
    address=$(sed -n 's/^listening //p' "$work/rep.out")
    [[ -n $address ]] && return
    sleep 0.05
  done
  echo "nng: reqrep does not listen on $1" >&2
  exit 1
}

head -c 1048000 /dev/urandom >"$work/large"
printf 'hello' >"$work/small"
for listen in tcp://127.0.0.1:0 "ipc://$work/rep.sock"; do
  answer "$listen"
  for body in small large; do
    timeout 20 nngcat --req --dial "$address" --recv-timeout 15 --file "$work/$body" --raw \
      >"$work/got"
    check "nngcat asks over ${listen%%:*}, $body" "$work/$body" "$work/got"
  done
  # Many askers at once, each several times.
  for asker in $(seq 8); do
    printf 'asker %s' "$asker" >"$work/asker$asker"
    timeout 20 nngcat --req --dial "$address" --count 3 --interval 1 --recv-timeout 15 \
      --file "$work/asker$asker" --raw >"$work/got$asker" &
    askers[asker]=$!
  done
  for asker in $(seq 8); do
    wait "${askers[asker]}"
    for _ in 1 2 3; do cat "$work/asker$asker"; done >"$work/want"
    check "asker $asker of 8 over ${listen%%:*}" "$work/want" "$work/got$asker"
  done
done

# nngcat answers with a fixed body: a request of the same bytes gets what looks like an echo.
port=$((20000 + RANDOM % 20000))
for listen in "tcp://127.0.0.1:$port" "ipc://$work/nng.sock"; do
  # The example's first request of five bytes.
  printf '\x00\x1f\x3e\x5d\x7c' >"$work/first"
  timeout 30 nngcat --rep --listen "$listen" --file "$work/first" --quoted >"$work/log" &
  running+=($!)
  for attempt in $(seq 100); do
    if timeout 20 "$ours" req "$listen" --count 1 --size 5 >"$work/out" 2>"$work/err"; then break; fi
    [[ $attempt -lt 100 ]] || { cat "$work/err" >&2; exit 1; }
    sleep 0.05
  done
  grep -q '^ok count=1 size=5' "$work/out"
  passed=$((passed + 1))
  echo "ok nngcat answers over ${listen%%:*}"
done
echo "nng: $passed checks passed"
