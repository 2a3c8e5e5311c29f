"""The process that forks shims: `python -m vmm_ffi.zygote HOST_PID`, with a SOCK_SEQPACKET socket as standard input.

It is small and has a single thread, so a fork takes a few milliseconds, and the kernel's promise to end a shim with
its parent (PR_SET_PDEATHSIG, which is bound to the parent's thread) holds. It lives as long as its host: when the host
ends, or closes its end of the socket, it kills its shims, reaps them, and ends. Machines that shall outlive it have
keepers (`vmm_ffi.keeper`) for parents, which it forks as well and leaves alone.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import os
import select
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable

import attrs

from vmm_ffi import keeper, shim
from vmm_ffi.factory import VmmFactory
from vmm_ffi.jail.birth import GO, Birth, end
from vmm_ffi.jail.bubblewrap import status_of
from vmm_ffi.jail.enter import jailed
from vmm_ffi.jail.seccomp import SeccompError, filter_of
from vmm_ffi.shares import server as share_server
from vmm_ffi.shares.server import RunningServer
from vmm_ffi.spec import (
    MAX_DATAGRAM,
    Exited,
    Failed,
    Keep,
    Kill,
    ProcessIdentity,
    Spawn,
    Spawned,
    decode_event,
    decode_request,
    encode,
    identity_of,
    key_of,
)

_SIZE_OF_INT = 4

_INFO_SECONDS = 1.0
"""How long bubblewrap, when all ends, may take to say which process it has made."""


@attrs.define(eq=False)
class _Shim:
    """A forked child that is not yet reaped: until then, its pid belongs to nobody else."""

    key: int
    pid: int
    pidfd: int
    server: RunningServer | None
    """Of its shares, as long as that is not reaped."""
    birth: Birth | None = None
    """How its machine begins, where that is another process, in a jail."""
    machine: int | None = None
    """A pidfd of that process, as soon as it is known."""
    announced: bool = False
    """Whether the host was told of it, and so is to be told of its end."""
    status: int | None = None
    """Once it is reaped; then its server is about to end."""
    cause: str = ""
    """Why it is killed from here, where nobody asks for that."""
    doom: float | None = None
    """When it is, by the monotonic clock, if it has not ended by then."""
    killed: bool = False
    """Whether it was."""


@attrs.define(eq=False)
class _Keeper:
    """A forked child that shall have a machine. `reports` is the socket to it, until it has said how that went."""

    key: int
    pid: int
    pidfd: int
    reports: socket.socket | None


class Zygote:
    """The loop: requests from the host in, shims and their ends out."""

    def __init__(self, host: socket.socket, host_pidfd: int, factory: VmmFactory | None = None) -> None:
        """Owns the socket and the pidfd from now on. `factory` has other engines than the built-in ones."""
        self._factory = factory
        self._host = host
        self._host_pidfd = host_pidfd
        self._selector = selectors.DefaultSelector()
        self._shims: dict[int, _Shim] = {}
        self._keepers: dict[int, _Keeper] = {}
        self._outbox: collections.deque[bytes] = collections.deque()
        self._serving = True

    def serve(self) -> None:
        """Returns when the host has ended or hung up, and every shim is dead and reaped.

        Keepers whose machines have begun go on.
        """
        self._host.setblocking(False)
        self._selector.register(self._host, selectors.EVENT_READ, self._on_host)
        # Another process may hold a copy of the host's end of the socket, so its end of file is not enough.
        self._selector.register(self._host_pidfd, selectors.EVENT_READ, self._on_host_ended)
        while self._serving:
            for ready, events in self._selector.select(self._kill_doomed()):
                handle: Callable[[int], None] = ready.data
                handle(events)
        unborn = [kept for kept in self._keepers.values() if kept.reports is not None]
        for child in list(self._shims.values()):
            if child.status is None:
                self._put_down(child)
        for kept in unborn:
            end(kept.pidfd)
        for child in list(self._shims.values()):
            if child.status is None:
                self._reap(child)
            if child.server is not None:
                self._reap_server(child, child.server)
        for kept in unborn:
            self._reap_keeper(kept)

    def _kill_doomed(self) -> float | None:
        """The seconds until the next one is due; None where none is."""
        now = time.monotonic()
        waiting = []
        for child in self._shims.values():
            if child.doom is None or child.status is not None:
                continue
            if child.doom > now:
                waiting.append(child.doom - now)
            else:
                end(child.pidfd if child.machine is None else child.machine)
                child.doom, child.killed = None, True
        return min(waiting, default=None)

    def _on_host_ended(self, events: int) -> None:
        self._serving = False

    def _on_host(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush()
        if events & selectors.EVENT_READ:
            self._receive()

    def _receive(self) -> None:
        try:
            datagram, ancillary, flags, _ = self._host.recvmsg(
                MAX_DATAGRAM, socket.CMSG_SPACE(_SIZE_OF_INT), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except ConnectionError:
            datagram, ancillary, flags = b"", [], 0
        if not datagram:
            self._serving = False
            return
        descriptors = _descriptors(ancillary)
        try:
            self._handle(datagram, descriptors, whole=not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _handle(self, datagram: bytes, descriptors: list[int], *, whole: bool) -> None:
        try:
            if not whole:
                raise ValueError("the datagram is too long")
            request = decode_request(datagram)
        except (ValueError, KeyError, TypeError) as error:
            key = key_of(datagram)
            if key is not None and not self._knows(key):
                self._send(Failed(key, f"the request is malformed: {error}"))
            return
        match request:
            case Spawn(key=key) if self._knows(key):
                return
            case Spawn(keep=Keep() as keep):
                shim.prepare(request.spec)
                self._spawn_kept(request, keep)
            case Spawn():
                shim.prepare(request.spec)
                self._spawn(request, descriptors)
            case Kill():
                self._kill(request)

    def _knows(self, key: int) -> bool:
        return key in self._shims or key in self._keepers

    def _spawn(self, request: Spawn, descriptors: list[int]) -> None:
        if len(descriptors) != 1:
            self._send(Failed(request.key, f"{len(descriptors)} descriptors came along, not one for the console"))
            return
        zygote = os.getpid()
        birth = None
        try:
            server = share_server.start(request.spec, descriptors[0])
        except OSError as error:
            self._send(Failed(request.key, f"cannot start what serves its shares: {error}", error.errno))
            return
        try:
            # Made here, so that the next ones of this kind find it made.
            filter_of(request.spec)
            birth = Birth(request.spec) if jailed(request.spec) else None
            pid = os.fork()
        except (OSError, SeccompError) as error:
            if birth is not None:
                birth.close()
            _end(server)
            self._send(Failed(request.key, f"cannot fork: {error}" if isinstance(error, OSError) else str(error)))
            return
        if pid == 0:
            link = None if server is None else server.give_link()
            shim.become(request.spec, descriptors[0], zygote, birth=birth, shares=link, factory=self._factory)
        child = _Shim(request.key, pid, -1, server, birth)
        try:
            child.pidfd = os.pidfd_open(pid)
            process = identity_of(pid, unreaped=True)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            if birth is not None:
                birth.close()
            _end(server)
            self._send(Failed(request.key, f"cannot watch the shim: {error}"))
            return
        self._shims[request.key] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, lambda events: self._reap(child))
        if server is not None:
            server.linked()
            self._selector.register(server.pidfd, selectors.EVENT_READ, lambda events: self._reap_server(child, server))
        if birth is not None:
            birth.forked()
            self._selector.register(birth.info, selectors.EVENT_READ, lambda events: self._on_birth(child, birth))
            return
        # A child that nobody has reaped has an identity.
        assert process is not None
        self._announce(child, process)

    def _announce(self, child: _Shim, process: ProcessIdentity) -> None:
        child.announced = True
        self._send(Spawned(child.key, process))

    def _on_birth(self, child: _Shim, birth: Birth) -> None:
        """Bubblewrap says which process the machine is, or hangs up."""
        if not birth.listen():
            self._settle(child, birth)

    def _settle(self, child: _Shim, birth: Birth) -> None:
        """Once for each child in a jail, when bubblewrap has said all."""
        self._selector.unregister(birth.info)
        try:
            confined = birth.settle(child.pid)
        except OSError as error:
            end(child.pidfd)
            self._send(Failed(child.key, f"its limits cannot be set: {error}", error.errno))
        else:
            if confined is not None:
                child.machine = confined.pidfd
                birth.go()
            process = identity_of(child.pid, unreaped=True) if confined is None else confined.identity
            # A child that nobody has reaped has an identity.
            assert process is not None
            self._announce(child, process)
        birth.close()

    def _spawn_kept(self, request: Spawn, keep: Keep) -> None:
        reports, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = os.fork()
            except OSError as error:
                reports.close()
                self._send(Failed(request.key, f"cannot fork: {error}", error.errno))
                return
            if pid == 0:
                keeper.keep(request, keep, theirs)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            reports.close()
            self._send(Failed(request.key, f"cannot watch the keeper: {error}", error.errno))
            return
        child = self._keepers[request.key] = _Keeper(request.key, pid, pidfd, reports)
        self._selector.register(reports, selectors.EVENT_READ, lambda events: self._on_report(child))
        self._selector.register(pidfd, selectors.EVENT_READ, lambda events: self._reap_keeper(child))

    def _on_report(self, child: _Keeper) -> None:
        if child.reports is None:
            # Its end, in the same turn of the loop, came first.
            return
        reports, child.reports = child.reports, None
        self._selector.unregister(reports)
        with reports:
            report = _read_report(reports, child.key)
            # Whatever has begun before the host's end is on record by now; after it, nothing begins.
            if isinstance(report, Spawned) and self._host_lives():
                # A keeper that has been killed since will be reaped, and its machine dies with it.
                with contextlib.suppress(OSError):
                    reports.send(GO, socket.MSG_NOSIGNAL)
        self._send(report)

    def _host_lives(self) -> bool:
        return self._serving and not select.select([self._host_pidfd], [], [], 0)[0]

    def _reap_keeper(self, child: _Keeper) -> None:
        self._on_report(child)
        os.waitpid(child.pid, 0)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        del self._keepers[child.key]

    def _kill(self, request: Kill) -> None:
        child = self._shims.get(request.key)
        if child is not None and child.status is None:
            try:
                signal.pidfd_send_signal(child.pidfd if child.machine is None else child.machine, request.signal)
            except (OSError, TypeError, OverflowError):
                # It has ended and its end is about to be reported, or there is no such signal.
                return

    def _put_down(self, child: _Shim) -> None:
        """Kills it, the machine first: without bubblewrap, it would not be found any more."""
        birth = child.birth
        if birth is not None and not birth.closed:
            # Which process it is, is said within milliseconds, if at all.
            while select.select([birth.info], [], [], _INFO_SECONDS)[0] and birth.listen():
                continue
            self._settle(child, birth)
        if child.machine is not None:
            end(child.machine)
        end(child.pidfd)

    def _reap(self, child: _Shim) -> None:
        birth = child.birth
        if birth is not None and not birth.closed:
            self._put_down(child)
        _, child.status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        if child.machine is not None:
            child.status = status_of(child.status)
            end(child.machine)
            os.close(child.machine)
        if birth is not None:
            birth.remove_group()
        if child.server is None:
            self._report_end(child)
        else:
            child.server.kill()

    def _reap_server(self, child: _Shim, server: RunningServer) -> None:
        self._selector.unregister(server.pidfd)
        how, child.server = server.reap(), None
        if child.status is None:
            # What the guest waits for from its shares would never come.
            child.cause = how.cause
            child.doom = time.monotonic() + how.grace
        else:
            self._report_end(child)

    def _report_end(self, child: _Shim) -> None:
        assert child.status is not None
        del self._shims[child.key]
        if child.announced:
            self._send(Exited(child.key, child.status, child.cause if child.killed else ""))

    def _send(self, event: Spawned | Failed | Exited) -> None:
        """Never blocks: a host that does not read must not keep the zygote from noticing its death."""
        self._outbox.append(encode(event))
        self._flush()

    def _flush(self) -> None:
        while self._outbox:
            try:
                self._host.send(self._outbox[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                # Nobody listens any more; reading will say so too.
                self._outbox.clear()
            else:
                self._outbox.popleft()
        waiting = selectors.EVENT_WRITE if self._outbox else 0
        self._selector.modify(self._host, selectors.EVENT_READ | waiting, self._on_host)


def _end(server: RunningServer | None) -> None:
    if server is not None:
        server.kill()
        server.reap()


def _read_report(reports: socket.socket, key: int) -> Spawned | Failed:
    """What a keeper says of its machine; does not wait, since it has said something or has ended."""
    try:
        report = decode_event(reports.recv(MAX_DATAGRAM, socket.MSG_DONTWAIT))
    except (OSError, ValueError):
        return Failed(key, "its keeper ended before the machine began")
    assert isinstance(report, (Spawned, Failed))
    return report


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The file descriptors among a message's ancillary data (unix(7), SCM_RIGHTS)."""
    return [
        int.from_bytes(data[start : start + _SIZE_OF_INT], sys.byteorder)
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for start in range(0, len(data) - len(data) % _SIZE_OF_INT, _SIZE_OF_INT)
    ]


def main(arguments: list[str]) -> int:
    """Serves the host, which must be the parent of this process."""
    host_pid = int(arguments[0])
    try:
        host_pidfd = os.pidfd_open(host_pid)
    except ProcessLookupError:
        return 0
    if os.getppid() != host_pid:
        # The host has ended already, and the number may be another process's by now.
        return 0
    # Objects that the collector no longer visits stay shared with the shims.
    gc.freeze()
    Zygote(socket.socket(fileno=os.dup(0)), host_pidfd).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
