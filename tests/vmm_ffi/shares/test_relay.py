"""The relay between a guest and a real virtiofsd: the test is the guest, with a kernel of its own, and speaks FUSE."""

from __future__ import annotations

import errno
import itertools
import os
import select
import signal
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from boxlite.vmm.facts import find_virtiofsd
from tests.vmm.processes import alive, children
from tests.vmm_ffi.test_krun import SPEC
from vmm_ffi.shares import server
from vmm_ffi.shares.requests import LARGEST
from vmm_ffi.shares.server import RunningServer, ServerEnd
from vmm_ffi.spec import InstanceSpec, ShareSpec

LOOKUP, FORGET, GETATTR, MKNOD, OPEN, READ, WRITE, INIT = 1, 2, 3, 8, 14, 15, 16, 26
PATIENCE = 10
ROOT = 1


@attrs.define
class FuseGuest:
    """A guest's kernel, as far as it is needed to be hostile."""

    socket: socket.socket
    _numbers: Iterator[int] = attrs.field(factory=lambda: itertools.count(2, 2))

    def send(self, kind: int, node: int, body: bytes = b"") -> int:
        number = next(self._numbers)
        self.socket.sendall(struct.pack("<IIQQIIII", 40 + len(body), kind, number, node, 0, 0, 1, 0) + body)
        return number

    def answer(self) -> tuple[int, int, bytes]:
        """Of which request, which error, and what else."""
        length, error, number = struct.unpack("<IiQ", self.receive(16))
        return number, -error, self.receive(length - 16)

    def receive(self, length: int) -> bytes:
        received = b""
        while len(received) < length:
            chunk = self.socket.recv(length - len(received))
            if not chunk:
                raise EOFError
            received += chunk
        return received

    def ask(self, kind: int, node: int, body: bytes = b"") -> bytes:
        """Raises OSError where the server says no."""
        number = self.send(kind, node, body)
        answered, error, reply = self.answer()
        assert answered == number
        if error:
            raise OSError(error, os.strerror(error))
        return reply

    def look_up(self, node: int, name: bytes) -> int:
        (found,) = struct.unpack_from("<Q", self.ask(LOOKUP, node, name + b"\0"))
        return int(found)

    def inode(self, node: int) -> int:
        """The number that the file has on the host."""
        return int(struct.unpack_from("<Q", self.ask(GETATTR, node, bytes(16)), 16)[0])

    def open(self, node: int, flags: int) -> int:
        return int(struct.unpack_from("<Q", self.ask(OPEN, node, struct.pack("<II", flags, 0)))[0])

    def read(self, node: int, handle: int, size: int, offset: int = 0) -> bytes:
        return self.ask(READ, node, struct.pack("<QQIIQII", handle, offset, size, 0, 0, 0, 0))

    def write(self, node: int, handle: int, data: bytes, offset: int = 0) -> None:
        self.ask(WRITE, node, struct.pack("<QQIIQII", handle, offset, len(data), 0, 0, 0, 0) + data)

    def make(self, node: int, name: bytes, mode: int) -> None:
        self.ask(MKNOD, node, struct.pack("<IIII", mode, 0x103, 0, 0) + name + b"\0")


@pytest.fixture
def host(tmp_path: Path) -> Path:
    for name in ("rw", "ro"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(f"{name}\n")
    return tmp_path


@pytest.fixture
def spec(host: Path, sockets: Path) -> InstanceSpec:
    virtiofsd = find_virtiofsd()
    assert virtiofsd is not None, "the tests need virtiofsd"
    shares = (ShareSpec("v0", str(host / "rw"), read_only=False), ShareSpec("v1", str(host / "ro")))
    return attrs.evolve(SPEC, shares=shares, share_server=str(virtiofsd), share_socket=str(sockets / "fs"))


@attrs.define
class Served:
    """A guest, and what serves it."""

    guest: FuseGuest
    server: RunningServer
    console: Path
    end: ServerEnd | None = None

    def reap(self) -> ServerEnd:
        """Also more than once."""
        if self.end is None:
            self.end = self.server.reap()
        return self.end

    def wait_ended(self) -> None:
        """For the server's end, which is to come by itself."""
        assert select.select([self.server.pidfd], [], [], PATIENCE)[0]


@contextmanager
def serving(spec: InstanceSpec, console: Path) -> Iterator[Served]:
    """Reaps the server at the end, if that has not been done."""
    with console.open("wb") as output:
        running = server.start(spec, output.fileno())
    assert running is not None
    assert spec.share_socket is not None
    every = {running.pid, running.relay, *children(running.pid)}
    with socket.socket(socket.AF_UNIX) as connection:
        served = Served(FuseGuest(connection), running, console)
        try:
            connection.settimeout(PATIENCE)
            connection.connect(spec.share_socket)
            served.guest.ask(INIT, 0, struct.pack("<IIII", 7, 36, 131072, 0xBFFFFFFF))
            every |= children(running.pid)
            yield served
        finally:
            running.kill()
            served.reap()
            assert not [pid for pid in every if pid and alive(pid)]


@pytest.fixture
def served(spec: InstanceSpec, tmp_path: Path) -> Iterator[Served]:
    with serving(spec, tmp_path / "console") as served:
        yield served


def refused(attempt: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # which one is what is asked for
        attempt(*arguments)
    return errno.errorcode[caught.value.errno or 0]


def test_a_hostile_kernel_gets_no_more_than_what_was_given(served: Served, host: Path) -> None:
    guest = served.guest
    (host / "secret").write_text("secret")
    (host / "rw/link").symlink_to(host / "secret")
    writable, read_only = guest.look_up(ROOT, b"v0"), guest.look_up(ROOT, b"v1")
    # Some servers take names for paths. The tree of shares has nothing above it, and is all that there is.
    for name in (b"../secret", b"../../../../secret", b"/etc/passwd", str(host / "secret").encode()):
        assert refused(guest.look_up, ROOT, name) in ("EINVAL", "ENOENT")
    root = guest.inode(ROOT)
    assert guest.inode(guest.look_up(ROOT, b"..")) == root
    assert guest.inode(guest.look_up(writable, b"..")) == root
    # A link is what it is; nothing follows it.
    link = guest.look_up(writable, b"link")
    assert refused(guest.open, link, os.O_RDONLY) in ("EBADF", "ELOOP")
    # Whatever it believes to have mounted, the host does not write there.
    file = guest.look_up(read_only, b"file")
    assert guest.read(file, guest.open(file, os.O_RDONLY), 100) == b"ro\n"
    assert refused(guest.open, file, os.O_RDWR) == "EROFS"
    assert refused(guest.make, read_only, b"new", stat.S_IFREG | 0o644) == "EROFS"
    assert refused(guest.make, ROOT, b"new", stat.S_IFREG | 0o644) == "EROFS"
    # And nothing that it makes has privileges.
    assert refused(guest.make, writable, b"null", stat.S_IFCHR | 0o666) == "EPERM"
    assert refused(guest.make, writable, b"program", stat.S_IFREG | 0o4755) == "EPERM"
    assert sorted(os.listdir(host / "rw")) == ["file", "link"]
    assert os.listdir(host / "ro") == ["file"]


def test_much_is_read_and_written_as_it_is(served: Served, host: Path) -> None:
    """More at a time, too, than the queue has places for."""
    guest, data = served.guest, os.urandom(128 * 1024)
    file = guest.look_up(guest.look_up(ROOT, b"v0"), b"file")
    handle = guest.open(file, os.O_RDWR)
    for number in range(8):
        guest.write(file, handle, data, number * len(data))
    assert (host / "rw/file").read_bytes() == 8 * data
    for size in (0, 1, 4096, len(data)):
        assert guest.read(file, handle, size) == data[:size]
    # Of more, what there is room for, or nothing.
    guest.send(READ, file, struct.pack("<QQIIQII", handle, 0, 2**32 - 1, 0, 0, 0, 0))
    assert len(guest.answer()[2]) < LARGEST
    asked = {guest.send(GETATTR, file, bytes(16)) for _ in range(200)}
    assert {guest.answer()[0] for _ in range(200)} == asked


def resident(server: RunningServer) -> int:
    """Memory of the relay, in bytes."""
    return int(Path(f"/proc/{server.relay}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_one_that_does_not_read_its_answers_waits_for_itself_alone(served: Served) -> None:
    """It is not read from either, so nothing piles up; and goes on when it reads."""
    guest = served.guest
    file = guest.look_up(guest.look_up(ROOT, b"v0"), b"file")
    before = resident(served.server)
    guest.socket.setblocking(False)
    one = struct.pack("<IIQQIIII", 56, GETATTR, 2, file, 0, 0, 1, 0) + bytes(16)
    stream, sent = one * 200_000, 0
    while select.select([], [guest.socket], [], 0.2)[1]:
        sent += guest.socket.send(stream[sent : sent + 65536])
    assert sent < len(stream)
    assert resident(served.server) - before < 16 << 20
    guest.socket.settimeout(PATIENCE)
    for _ in range(sent // len(one)):
        assert guest.answer()[:2] == (2, 0)
    guest.socket.sendall(stream[sent : sent + -sent % len(one)])
    if sent % len(one):
        assert guest.answer()[:2] == (2, 0)


def test_many_large_answers_to_one_that_does_not_read_wait_in_the_host_s_files(served: Served, host: Path) -> None:
    """A thousand requests and more come at once, and each may ask for a hundred kilobytes."""
    guest, size, many = served.guest, 128 * 1024, 1000
    (host / "rw/file").write_bytes(bytes(size))
    file = guest.look_up(guest.look_up(ROOT, b"v0"), b"file")
    handle = guest.open(file, os.O_RDONLY)
    before = resident(served.server)
    body = struct.pack("<QQIIQII", handle, 0, size, 0, 0, 0, 0)
    guest.socket.sendall((struct.pack("<IIQQIIII", 40 + len(body), READ, 2, file, 0, 0, 1, 0) + body) * many)
    select.select([], [], [], 0.5)
    assert resident(served.server) - before < 16 << 20
    for _ in range(many):
        assert guest.answer() == (2, 0, bytes(size))


@pytest.mark.parametrize(
    ("stream", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "the guest's request for its volumes is refused: a request of 542393671 bytes"),
        (bytes(40), "a request of 0 bytes"),
        (struct.pack("<II", LARGEST + 1, READ), f"a request of {LARGEST + 1} bytes"),
    ],
)
def test_what_is_no_request_ends_it_and_is_told(served: Served, stream: bytes, complaint: str) -> None:
    served.guest.socket.sendall(stream)
    served.wait_ended()
    how = served.reap()
    assert (how.cause, how.grace) == ("the relay to virtiofsd, which serves its volumes, exited with status 125", 0)
    assert complaint in served.console.read_text()


def test_any_request_of_a_right_length_is_virtiofsd_s_to_judge(served: Served) -> None:
    for kind in (0, READ, WRITE, 99, 2**32 - 1):
        for node in (ROOT, 2**63):
            served.guest.send(kind, node, b"\xff" * 3000)
    # What has no answer is in nobody's way.
    served.guest.send(FORGET, ROOT, bytes(8))
    file = served.guest.send(GETATTR, ROOT, bytes(16))
    while (answer := served.guest.answer())[0] != file:
        assert answer[1] > 0
    assert answer[1] == 0


def test_a_guest_connects_once(served: Served, spec: InstanceSpec) -> None:
    assert spec.share_socket is not None
    assert stat.S_IMODE(os.stat(spec.share_socket).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as another, pytest.raises(ConnectionRefusedError):
        another.connect(spec.share_socket)


def test_a_guest_that_hangs_up_ends_its_server_without_fault(served: Served) -> None:
    served.guest.socket.close()
    served.wait_ended()
    assert served.reap() == ServerEnd(0)


def test_each_ends_with_the_other(spec: InstanceSpec, tmp_path: Path) -> None:
    with serving(spec, tmp_path / "console") as served:
        os.kill(max(children(served.server.pid)), signal.SIGKILL)
        assert served.guest.socket.recv(1) == b"", "the guest hears of it"
        served.wait_ended()
        assert served.reap().cause.startswith("virtiofsd, which serves its volumes, exited with status ")
    with serving(attrs.evolve(spec, share_socket=f"{spec.share_socket}2"), tmp_path / "console") as served:
        assert served.server.relay is not None
        os.kill(served.server.relay, signal.SIGKILL)
        served.wait_ended()
        how = served.reap()
        assert (how.cause, how.grace) == ("the relay to virtiofsd, which serves its volumes, was killed by signal 9", 0)


def test_a_server_that_cannot_begin_ends_its_relay_that_waits_for_a_guest(spec: InstanceSpec, tmp_path: Path) -> None:
    with (tmp_path / "console").open("wb") as output:
        running = server.start(attrs.evolve(spec, share_server="/bin/false"), output.fileno())
    assert running is not None
    assert running.relay is not None
    relay = os.pidfd_open(running.relay)
    assert select.select([relay], [], [], PATIENCE)[0], "it has not ended by itself"
    os.close(relay)
    assert running.reap() == ServerEnd(1 << 8)


def test_a_relay_has_what_it_needs_and_nothing_else(served: Served) -> None:
    place = Path(f"/proc/{served.server.relay}")
    status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines())
    assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")
    named = sorted(os.readlink(place / "fd" / name).partition(":")[0] for name in os.listdir(place / "fd"))
    console = str(served.console)
    assert named == sorted(["/dev/null", "/memfd", console, console, "socket", "socket", "anon_inode", "anon_inode"])
