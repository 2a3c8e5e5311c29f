"""A network and a server that fail: the pull goes on where it can, and says what is wrong where it can not."""

from __future__ import annotations

import email.utils
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from boxlite.errors import ImageDamaged, ImageError, RegistryMisbehaved, RegistryUnavailable
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.registry.progress import LayerState
from tests.images.registry.content import Content, image_of, small_image
from tests.images.registry.faults import (
    Changed,
    Cut,
    Fault,
    FaultProxy,
    Garbage,
    Lengthened,
    LyingLength,
    NoRange,
    Refused,
    Shortened,
    Silent,
    Slow,
    Unsatisfiable,
    WrongRange,
)
from tests.images.registry.pulls import CONFIG, HOST, Puller, open_puller
from tests.images.registry.web import Request, Response

LARGE = 400_000


@pytest.fixture
def content() -> Content:
    """One image with one large layer."""
    return image_of(LARGE)


def large_layer(content: Content) -> str:
    return next(name for name, data in content.blobs.items() if len(data) > LARGE)


def faulty(puller: Puller, content: Content, *faults: Fault | None) -> FaultProxy:
    """The registry, whose large layer comes with these faults."""
    proxy = FaultProxy(content, faults, part=large_layer(content))
    puller.web.host(HOST, proxy.answer, proxy.send)
    return proxy


def ranges(proxy: FaultProxy) -> list[str]:
    return [request.headers["range"] for request in proxy.requests if "range" in request.headers]


@pytest.mark.parametrize("at", [0, 1, 20, 150, 100_000, LARGE])
async def test_a_cut_connection_is_resumed_where_it_broke(
    autojump_clock: MockClock, content: Content, tmp_path: Path, at: int
) -> None:
    async with open_puller(tmp_path) as puller:
        proxy = faulty(puller, content, Cut(at))
        puller.check_whole(await puller.pull())
    head = len((await content(proxy.requests[-1])).wire()) - LARGE
    assert len(ranges(proxy)) == (at > head + 1000)
    for asked in ranges(proxy):
        assert abs(int(asked[6:-1]) - at) < 1000


async def test_a_hundred_breaks_are_no_failure_while_each_brings_something(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    layout, content = tmp_path / "layout", Content()
    content.put_layout(layout, small_image(layout, 10_000_000))
    async with open_puller(tmp_path / "store") as puller:
        proxy = FaultProxy(content, [Cut(100_000)] * 200, part="/blobs/")
        puller.web.host(HOST, proxy.answer, proxy.send)
        puller.check_whole(await puller.pull())
    assert len(ranges(proxy)) >= 95


async def test_breaks_that_bring_nothing_have_an_end(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async with open_puller(tmp_path) as puller:
        proxy = faulty(puller, content, *[Cut(1000)] * 500)
        with pytest.raises(RegistryUnavailable, match=r"tried 5 times"):
            await puller.pull()
        assert len(puller.partial()) == 1
    assert sum("/blobs/" in request.path and large_layer(content) in request.path for request in proxy.requests) == 5


async def test_a_server_that_knows_no_ranges_begins_anew(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, Cut(200_000), NoRange())
        puller.check_whole(await puller.pull())


@pytest.mark.parametrize("fault", [Unsatisfiable(), WrongRange()])
async def test_a_part_that_was_not_asked_for_is_not_taken(
    autojump_clock: MockClock, content: Content, tmp_path: Path, fault: Fault
) -> None:
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, Cut(200_000), fault)
        puller.check_whole(await puller.pull())


async def test_a_part_of_something_else_is_found_out_and_the_whole_fetched_again(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async with open_puller(tmp_path) as puller:
        proxy = faulty(puller, content, Cut(200_000), Changed(5))
        puller.check_whole(await puller.pull())
    assert len(ranges(proxy)) == 1


@pytest.mark.parametrize("size", [150_000, "all"])
async def test_what_an_earlier_process_left_damaged_does_not_stay(
    autojump_clock: MockClock, content: Content, tmp_path: Path, size: int | str
) -> None:
    """All of it may have come, when that process ended before it could look at it."""
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, *[Cut(200_000)] * 20, Refused(404))
        with pytest.raises(ImageError):
            await puller.pull(config=RegistryConfig(credential_files=(), attempts=1))
        partial = max(puller.partial(), key=lambda path: path.stat().st_size)
        partial.write_bytes(b"?" * (size if isinstance(size, int) else len(content.blobs[large_layer(content)])))
        faulty(puller, content)
        puller.check_whole(await puller.pull())


async def test_a_changed_copy_is_not_continued(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    """The tag of the server's copy goes along with the request for the rest."""
    async with open_puller(tmp_path) as puller:
        proxy = faulty(puller, content, Cut(200_000))
        await puller.pull()
    (asked,) = [request for request in proxy.requests if "range" in request.headers]
    assert asked.headers["if-range"] == f'"{large_layer(content)}"'


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(
    autojump_clock: MockClock, content: Content, tmp_path: Path, status: int
) -> None:
    async with open_puller(tmp_path) as puller:
        proxy = FaultProxy(content, [Refused(status)] * 3 + [None] + [Refused(status)] * 2)
        puller.web.host(HOST, proxy.answer, proxy.send)
        puller.check_whole(await puller.pull())
    retrying = [event.reason for event in puller.events if event.state is LayerState.RETRYING]
    assert all(f"answers with {status}" in reason for reason in retrying)


@pytest.mark.parametrize("status", [400, 405, 410, 418, 501])
async def test_what_does_not_pass_is_not(
    autojump_clock: MockClock, content: Content, tmp_path: Path, status: int
) -> None:
    async with open_puller(tmp_path) as puller:
        proxy = FaultProxy(content, [Refused(status)])
        puller.web.host(HOST, proxy.answer, proxy.send)
        with pytest.raises(RegistryUnavailable, match=rf"registry\.test answers with {status}"):
            await puller.pull()
    assert len(proxy.requests) == 1


@pytest.mark.parametrize("as_date", [False, True])
async def test_a_registry_that_asks_for_time_gets_it(
    autojump_clock: MockClock, content: Content, tmp_path: Path, as_date: bool
) -> None:
    value = email.utils.formatdate(time.time() + 61, usegmt=True) if as_date else "61"
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, Refused(429, value))
        began = trio.current_time()
        puller.check_whole(await puller.pull())
        assert 55 < trio.current_time() - began < 70


async def test_a_registry_that_asks_for_too_much_time_fails_at_once(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, Refused(429, "21600"))
        began = trio.current_time()
        with pytest.raises(RegistryUnavailable, match="left alone for 21600 s: try again then"):
            await puller.pull()
        assert trio.current_time() - began < 5


async def test_what_has_another_digest_is_not_kept(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    async with open_puller(tmp_path) as puller:
        proxy = faulty(puller, content, *[Changed(77)] * 100)
        with pytest.raises(ImageDamaged, match=r"registry\.test gives a damaged part"):
            await puller.pull()
        assert large_layer(content) not in puller.blobs()
        assert puller.partial() == []
    assert len(proxy.requests) <= 3


@pytest.mark.parametrize("fault", [Shortened(1), Lengthened(1), Lengthened(10**6)])
async def test_a_wrong_size_is_refused(
    autojump_clock: MockClock, content: Content, tmp_path: Path, fault: Fault
) -> None:
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, *[fault] * 100)
        with pytest.raises(ImageDamaged, match="its manifest promises"):
            await puller.pull()
        assert large_layer(content) not in puller.blobs()


async def test_an_endless_layer_is_cut_at_its_size(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    async def endless(request: Request) -> Response:
        response = await content(request)
        if large_layer(content) not in request.path:
            return response
        chunk = b"%x\r\n%s\r\n" % (LARGE, b"x" * LARGE)
        return Response(200, (("Transfer-Encoding", "chunked"),), chunk * 20)

    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, endless)
        with pytest.raises(ImageDamaged, match="gives more than"):
            await puller.pull()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 999 ?\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_a_clear_error(autojump_clock: MockClock, tmp_path: Path, data: bytes) -> None:
    async def strange(request: Request) -> bytes:
        return data

    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, strange)
        with pytest.raises((RegistryUnavailable, RegistryMisbehaved), match=r"registry\.test"):
            await puller.pull()


async def test_a_layer_in_an_encoding_is_refused(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    async def encoded(request: Request) -> Response:
        return (await content(request)).header("Content-Encoding", "gzip")

    async with open_puller(tmp_path) as puller:
        puller.web.host(HOST, encoded)
        with pytest.raises(RegistryMisbehaved, match="in an encoding"):
            await puller.pull()


async def test_silence_is_waited_for_as_long_as_the_caller_likes(
    autojump_clock: MockClock, content: Content, tmp_path: Path
) -> None:
    async with open_puller(tmp_path) as puller:
        faulty(puller, content, Silent())
        with trio.move_on_after(1e6) as scope:
            await puller.pull()
        assert scope.cancelled_caught


async def test_or_as_long_as_is_configured(autojump_clock: MockClock, content: Content, tmp_path: Path) -> None:
    config = RegistryConfig(credential_files=(), stall_seconds=20)
    async with open_puller(tmp_path) as puller:
        proxy = faulty(puller, content, Silent(), Slow(300_000))
        began = trio.current_time()
        puller.check_whole(await puller.pull(config=config))
        assert 20 < trio.current_time() - began < 30
        assert "nothing came for 20 s" in "".join(event.reason for event in puller.events)
    assert len(proxy.requests) == 4


FAULTS = st.one_of(
    st.builds(Cut, st.integers(0, LARGE + 2000)),
    st.builds(Cut, st.sampled_from([0, 1, LARGE // 2, LARGE])),
    st.builds(Slow, st.integers(5000, LARGE)),
    st.builds(Refused, st.sampled_from([404, 410, 416, 429, 500, 503]), st.sampled_from(["", "1", "x", "-5", "1e9"])),
    st.builds(Changed, st.integers(0, LARGE)),
    st.builds(Shortened, st.integers(1, LARGE)),
    st.builds(Lengthened, st.integers(1, 10)),
    st.builds(LyingLength, st.integers(-LARGE, LARGE).filter(bool)),
    st.builds(Garbage, st.binary(max_size=40)),
    st.just(NoRange()),
    st.just(WrongRange()),
    st.just(Unsatisfiable()),
    st.none(),
)


@settings(max_examples=40)
@given(faults=st.lists(FAULTS, max_size=12), random=st.random_module())
@example(faults=[Cut(200_000), WrongRange(), Cut(300_000), Changed(9)], random=None)
def test_whatever_happens_the_image_is_whole_or_there_is_an_error(
    faults: Sequence[Fault | None], random: object
) -> None:
    """And never a damaged blob; and when the faults are over, the next pull brings it, with what there is."""
    # Not a fixture, which Hypothesis would print whole.
    content = image_of(LARGE)

    async def main(directory: Path) -> None:
        async with open_puller(directory) as puller:
            proxy = FaultProxy(content, faults)
            puller.web.host(HOST, proxy.answer, proxy.send)
            try:
                manifest = await puller.pull()
            except ImageError:
                puller.check_undamaged()
                assert content.tags["latest"] not in puller.blobs()
            else:
                puller.check_whole(manifest)
            assert puller.web.open == 0
            puller.web.host(HOST, content)
            puller.check_whole(await puller.pull(config=CONFIG))
            assert puller.blobs() == content.blobs

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, Path(directory), clock=MockClock(autojump_threshold=0))


@settings(max_examples=15)
@given(
    pulls=st.lists(st.tuples(st.floats(0, 30), st.none() | st.floats(0, 30)), min_size=2, max_size=4),
    faults=st.lists(FAULTS, max_size=4),
    random=st.random_module(),
)
def test_pulls_into_one_store_at_once_and_cancelled_at_any_time_do_not_disturb_each_other(
    pulls: Sequence[tuple[float, float | None]], faults: Sequence[Fault | None], random: object
) -> None:
    """As those of several processes are. Each begins and is cancelled when it likes; one that is not has the image."""
    content = image_of(LARGE)

    async def slowly(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
        for start in range(0, len(wire), 20_000):
            await trio.sleep(1)
            await stream.send_all(wire[start : start + 20_000])

    async def main(directory: Path) -> None:
        async with open_puller(directory) as puller:
            proxy = FaultProxy(content, faults)

            async def send(stream: trio.abc.Stream, request: Request, wire: bytes) -> None:
                await (slowly if proxy.is_faultless(request) else proxy.send)(stream, request, wire)

            puller.web.host(HOST, proxy.answer, send)

            async def one(begin: float, end: float | None) -> None:
                await trio.sleep(begin)
                with trio.move_on_after(float("inf") if end is None else end):
                    try:
                        puller.check_whole(await puller.pull())
                    except ImageError:
                        puller.check_undamaged()

            async with trio.open_nursery() as nursery:
                for begin, end in pulls:
                    nursery.start_soon(one, begin, end)
            assert puller.web.open == 0
            puller.web.host(HOST, content)
            puller.check_whole(await puller.pull())
            assert puller.blobs() == content.blobs

    with tempfile.TemporaryDirectory() as directory:
        trio.run(main, Path(directory), clock=MockClock(autojump_threshold=0))
