"""The process that outlives the host with a virtual machine, whose parent it is.

It drains the machine's console into a bounded file, and notes how the machine ended. The machine dies with it, so a
machine without a keeper does not exist. See docs/engines.md for what happens when any of the processes is killed.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from typing import NoReturn

from vmm_ffi import shim
from vmm_ffi.child import forget_the_host, keep_only
from vmm_ffi.console_log import ConsoleLog
from vmm_ffi.files import create, remove, write_at
from vmm_ffi.spec import (
    CONSOLE_FILE,
    EXIT_FILE,
    VM_FILE,
    ExitNote,
    Failed,
    Keep,
    ProcessIdentity,
    Spawn,
    Spawned,
    VmRecord,
    encode,
    encode_file,
    identity_of,
)

GO = b"go"
"""The zygote's answer to `Spawned`, without which no machine begins."""

_RESERVED_FILE = ".exit.json"
_RESERVED_BYTES = 4096
_CHUNK = 64 * 1024
_PAUSE = 0.02
_LAST_CHUNKS = 32


def keep(request: Spawn, where: Keep, zygote: socket.socket) -> NoReturn:
    """Runs in the process that the zygote has forked; never returns and never raises.

    Says `Spawned` or `Failed` over the socket `zygote`. The machine's record is written before, and the machine begins
    after the zygote has answered: so a record can be found of every machine that ever ran, and nothing is left of one
    whose zygote ended meanwhile.
    """
    try:
        keep_only(None, zygote.fileno())
        forget_the_host()
        _keep(request, where, zygote)
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        zygote.send(encode(Failed(request.key, f"cannot keep the machine: {error}", number)), socket.MSG_NOSIGNAL)
    finally:
        # Whatever happened: the zygote's loop must not run a second time, in this process.
        os._exit(1)


def _keep(request: Spawn, where: Keep, zygote: socket.socket) -> None:
    directory = os.open(where.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    for old in (VM_FILE, EXIT_FILE):
        remove(old, directory)
    # The space for the exit is taken now, so that a full disk does not lose it.
    reserved = create(_RESERVED_FILE, directory)
    os.posix_fallocate(reserved, 0, _RESERVED_BYTES)
    log = ConsoleLog(create(CONSOLE_FILE, directory))
    keeper = _identity(os.getpid())
    console, console_end = os.pipe()
    gate, gate_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(gate_end)
        shim.become(request.spec, console_end, keeper.pid, gate)
    os.close(console_end)
    os.close(gate)
    process = _identity(pid)
    _write_record(VmRecord(process, keeper, where.sockets, request.spec.kind), directory)
    zygote.send(encode(Spawned(request.key, process, keeper)), socket.MSG_NOSIGNAL)
    if zygote.recv(len(GO)) != GO:
        # The machine has not begun, and ends with this process.
        return
    zygote.close()
    os.write(gate_end, GO)
    os.close(gate_end)
    _drain_until_end(console, os.pidfd_open(pid), log)
    _, status = os.waitpid(pid, 0)
    _note(ExitNote(process, status), reserved, directory)
    os._exit(0)


def _drain_until_end(console: int, machine: int, log: ConsoleLog) -> None:
    """Returns when the process of the pidfd `machine` has ended, and all that it printed is in the log."""
    os.set_blocking(console, False)
    with selectors.DefaultSelector() as selector:
        selector.register(console, selectors.EVENT_READ)
        selector.register(machine, selectors.EVENT_READ)
        ended = False
        while not ended:
            ready = {key.fd for key, _ in selector.select()}
            ended = machine in ready
            if console in ready:
                if not _drain(console, log):
                    selector.unregister(console)
                # A guest that prints without end is slowed down, instead of taking a processor of the host.
                time.sleep(_PAUSE)
    for _ in range(_LAST_CHUNKS):
        if not _drain(console, log):
            break


def _drain(console: int, log: ConsoleLog) -> bool:
    """Whether there was something to read."""
    try:
        chunk = os.read(console, _CHUNK)
    except BlockingIOError:
        return False
    log.append(chunk)
    return bool(chunk)


def _identity(pid: int) -> ProcessIdentity:
    identity = identity_of(pid, unreaped=True)
    if identity is None:
        raise ProcessLookupError(f"process {pid} is not in /proc")
    return identity


def _write_record(record: VmRecord, directory: int) -> None:
    draft = f".{VM_FILE}"
    file = create(draft, directory)
    write_at(file, encode_file(record), 0)
    os.close(file)
    os.rename(draft, VM_FILE, src_dir_fd=directory, dst_dir_fd=directory)


def _note(note: ExitNote, reserved: int, directory: int) -> None:
    content = encode_file(note)
    os.ftruncate(reserved, write_at(reserved, content, 0))
    os.rename(_RESERVED_FILE, EXIT_FILE, src_dir_fd=directory, dst_dir_fd=directory)
