"""The process that outlives the host with a virtual machine, whose parent it is.

It drains the machine's console into a bounded file, and notes how the machine ended. The machine dies with it, so a
machine without a keeper does not exist. See docs/engines.md for what happens when any of the processes is killed.
"""

from __future__ import annotations

import math
import os
import selectors
import signal
import socket
import time
from typing import NoReturn

from vmm_ffi import shim
from vmm_ffi.child import forget_the_host, keep_only
from vmm_ffi.console_log import ConsoleLog
from vmm_ffi.files import create, remove, write_at
from vmm_ffi.jail.birth import GO, Birth, end
from vmm_ffi.jail.bubblewrap import status_of
from vmm_ffi.jail.enter import jailed
from vmm_ffi.shares import server as share_server
from vmm_ffi.shares.server import RunningServer
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
    birth = Birth(request.spec)
    server = share_server.start(request.spec, console_end)
    pid = os.fork()
    if pid == 0:
        os.close(birth.gate_end)
        link = None if server is None else server.give_link()
        shim.become(request.spec, console_end, keeper.pid, birth=birth, shares=link)
    # Where the machine has been killed by now, nobody is behind the gate.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.close(console_end)
    birth.forked()
    if server is not None:
        server.linked()
    process, pidfd = _machine_of(birth, pid, jailed(request.spec))
    _write_record(VmRecord(process, keeper, where.sockets, request.spec.kind), directory)
    zygote.send(encode(Spawned(request.key, process, keeper)), socket.MSG_NOSIGNAL)
    if zygote.recv(len(GO)) != GO:
        # The machine has not begun, and ends with this process.
        end(pidfd)
        birth.remove_group()
        return
    zygote.close()
    birth.go()
    birth.close()
    cause = _drain_until_end(console, pidfd, log, server)
    _, status = os.waitpid(pid, 0)
    birth.remove_group()
    _note(ExitNote(process, status_of(status) if process.pid != pid else status, cause), reserved, directory)
    os._exit(0)


def _machine_of(birth: Birth, pid: int, in_jail: bool) -> tuple[ProcessIdentity, int]:
    """The machine and a pidfd of it: the process that was forked, or the one that bubblewrap has made of it.

    Where it made none, it will say why, and is taken for the machine.
    """
    if in_jail:
        while birth.listen():
            continue
        confined = birth.settle(pid)
        if confined is not None:
            return confined.identity, confined.pidfd
    return _identity(pid), os.pidfd_open(pid)


def _drain_until_end(console: int, machine: int, log: ConsoleLog, server: RunningServer | None) -> str:
    """Returns when the process of the pidfd `machine` has ended, and all that it printed is in the log.

    Neither outlives the other: gives the cause where the server of its shares ended first, and so it was killed.
    """
    os.set_blocking(console, False)
    cause, served, doom = "", "", math.inf
    with selectors.DefaultSelector() as selector:
        selector.register(console, selectors.EVENT_READ)
        selector.register(machine, selectors.EVENT_READ)
        if server is not None:
            selector.register(server.pidfd, selectors.EVENT_READ)
        ended = False
        while not ended:
            patience = None if doom == math.inf else max(0.0, doom - time.monotonic())
            ready = {key.fd for key, _ in selector.select(patience)}
            ended = machine in ready
            if not ended and time.monotonic() >= doom:
                cause, doom = served, math.inf
                signal.pidfd_send_signal(machine, signal.SIGKILL)
            if not ended and server is not None and server.pidfd in ready:
                selector.unregister(server.pidfd)
                how, server = server.reap(), None
                served, doom = how.cause, time.monotonic() + how.grace
            if console in ready:
                if not _drain(console, log):
                    selector.unregister(console)
                # A guest that prints without end is slowed down, instead of taking a processor of the host.
                time.sleep(_PAUSE)
    for _ in range(_LAST_CHUNKS):
        if not _drain(console, log):
            break
    if server is not None:
        server.kill()
        server.reap()
    return cause


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
