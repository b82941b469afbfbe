"""Long runs with nng at the other end: every size, both roles, and through devices."""

import contextlib
import hashlib
import socket as socketlib
import subprocess
import sys
import threading

import pynng

REQREP, WORK = sys.argv[1:]
# pynng cannot unpack an empty message; nngcat has asked and answered with those.
SIZES = [1, 64, 1000, 4096, 65536, (1 << 20) - 4]
ROUNDS = 10_000


@contextlib.contextmanager
def example(*args):
    process = subprocess.Popen([REQREP, *args], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline().split()
        assert line[0] == "listening", line
        yield line[1]
    finally:
        process.kill()
        process.wait()


def body(number, size):
    block = hashlib.sha256(str(number).encode()).digest()
    return (block * (size // 32 + 1))[:size]


def ask(address, rounds):
    with pynng.Req0(dial=address, recv_timeout=60_000, recv_max_size=0) as socket:
        for number in range(rounds):
            large = SIZES[number // 100 % len(SIZES)]
            request = body(number, large if number % 100 == 0 else 1 + number % 300)
            socket.send(request)
            assert socket.recv() == request, f"round {number} over {address}"


def free_port():
    with socketlib.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listen(address):
    """A socket that listens, and where: nng is not asked for port 0, as it would not say which."""
    if not address.endswith(":0"):
        return pynng.Rep0(listen=address, recv_max_size=0), address
    for _ in range(100):
        free = f"{address[:-1]}{free_port()}"
        with contextlib.suppress(pynng.exceptions.AddressInUse):
            return pynng.Rep0(listen=free, recv_max_size=0), free
    raise AssertionError("no port is free")


def answer(address):
    socket, address = listen(address)

    def run():
        with contextlib.suppress(pynng.exceptions.Closed):
            while True:
                socket.send(socket.recv())

    threading.Thread(target=run, daemon=True).start()
    return socket, address


def run(*args):
    done = subprocess.run([REQREP, *args], stdout=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("ok "), (args, done)


for place in ["tcp://127.0.0.1:0", f"ipc://{WORK}/rounds.sock"]:
    with example("rep", place) as address:
        ask(address, ROUNDS)
    print(f"ok: nng asks {ROUNDS} times over {place.split(':')[0]}", flush=True)

for place in ["tcp://127.0.0.1:0", f"ipc://{WORK}/answers.sock"]:
    socket, address = answer(place)
    run("req", address, "--count", str(ROUNDS), "--contexts", "16")
    for size in SIZES:
        run("req", address, "--count", "100", "--size", str(size))
    socket.close()
    print(f"ok: nng answers {ROUNDS} times over {place.split(':')[0]}", flush=True)

with contextlib.ExitStack() as stack:
    socket, far = answer("tcp://127.0.0.1:0")
    near = stack.enter_context(example("rep", "tcp://127.0.0.1:0"))
    for hops in range(1, 8):
        far = stack.enter_context(example("device", "tcp://127.0.0.1:0", far))
        near = stack.enter_context(example("device", "tcp://127.0.0.1:0", near))
        run("req", far, "--count", "200", "--contexts", "8")
        ask(near, 200)
    socket.close()
print("ok: nng at either end of one to seven devices")
