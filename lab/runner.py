"""Runs commands inside the outer machine: its one program, started by /init, with the standard library alone.

The host sends requests over a virtio-serial port, one JSON line each; what comes back are frames, see `FRAME`.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import time
from typing import Any, BinaryIO

FRAME = ">cI"
"""A kind and a length in big-endian order; the payload follows."""

HELLO, STDOUT, STDERR, EXIT = b"H", b"1", b"2", b"X"
"""Kinds: what the machine is like (JSON), output, and the exit status as `subprocess` gives it (JSON)."""

PORT = 2695
_PIECE = 64 * 1024
_CLOCK_SOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
_CLOCK_SECONDS = 10.0


def main() -> None:
    """Serves until the host hangs up."""
    with open(_find_port(), "r+b", buffering=0) as port:
        _send(port, HELLO, json.dumps(_describe()).encode())
        for line in port:
            request = json.loads(line)
            time.clock_settime_ns(time.CLOCK_REALTIME, request["time_ns"])
            status = run(port, request)
            _send(port, EXIT, json.dumps(status).encode())


def _find_port() -> str:
    directory = "/sys/class/virtio-ports"
    for name in os.listdir(directory):
        # The console is one too, and has no name.
        with contextlib.suppress(FileNotFoundError), open(f"{directory}/{name}/name") as file:
            if file.read().strip() == f"org.boxlite.{PORT}":
                return f"/dev/{name}"
    raise SystemExit(f"there is no port org.boxlite.{PORT}")


def _describe() -> dict[str, Any]:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        kvm = ""
    except OSError as error:
        kvm = f"/dev/kvm: {error.strerror}"
    return {"kvm_problem": kvm, "clock": _wait_for_clock()}


def _wait_for_clock() -> str:
    """The name of the clock source: the kernel takes the TSC some time after it has started, if it trusts it."""
    end = time.monotonic() + _CLOCK_SECONDS
    while True:
        with open(_CLOCK_SOURCE) as file:
            clock = file.read().strip()
        # sysfs tells nobody when it changes.
        if clock == "tsc" or time.monotonic() > end:
            return clock
        time.sleep(0.1)


def run(port: BinaryIO, request: dict[str, Any]) -> int:
    """Runs one command to its end, and sends its output; gives its status."""
    try:
        child = subprocess.Popen(
            request["argv"],
            cwd=request["cwd"],
            env=request["environment"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        _send(port, STDERR, f"lab: {request['argv'][0]}: {error}\n".encode())
        return 127
    with child:
        _pass_on(port, child)
    return child.returncode


def _pass_on(port: BinaryIO, child: subprocess.Popen[bytes]) -> None:
    """Returns when nobody can write any more."""
    assert child.stdout is not None
    assert child.stderr is not None
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ, STDOUT)
        selector.register(child.stderr, selectors.EVENT_READ, STDERR)
        while selector.get_map():
            for key, _ in selector.select():
                if data := os.read(key.fd, _PIECE):
                    _send(port, key.data, data)
                else:
                    selector.unregister(key.fileobj)


def _send(port: BinaryIO, kind: bytes, payload: bytes) -> None:
    data = kind + len(payload).to_bytes(4, "big") + payload
    while data:
        data = data[port.write(data) :]


if __name__ == "__main__":
    main()
