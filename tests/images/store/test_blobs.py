"""Blobs come in whole and checked, or not at all; what was cut off goes on where it ended."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxlite.errors import ImageDamaged, StorageFull
from boxlite.images.blobs import Descriptor, open_blob
from boxlite.images.digest import Digest
from boxlite.images.store.blobs import BlobStore, sweep_partial
from boxlite.images.store.files import StoreFiles
from boxlite.images.store.leases import all_held, open_lease

DATA = b"0123456789" * 100
NEVER, ALWAYS = float("-inf"), float("inf")


def describe(data: bytes, size: int | None = None) -> Descriptor:
    digest = Digest("sha256", hashlib.sha256(data).hexdigest())
    return Descriptor("application/octet-stream", digest, len(data) if size is None else size)


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "images")


def partial(store: BlobStore) -> list[str]:
    return sorted(os.listdir(store.directory / "partial"))


def test_a_whole_blob_is_there_and_readable_as_in_any_layout(store: BlobStore) -> None:
    descriptor = describe(DATA)
    assert not store.has(descriptor)
    with store.ingest(descriptor) as ingest:
        assert ingest.offset == 0
        ingest.write(DATA[:300])
        ingest.write(DATA[300:])
        assert not store.has(descriptor)
        ingest.commit()
    assert store.has(descriptor)
    assert partial(store) == []
    with open_blob(store.directory, descriptor) as blob:
        assert blob.readall() == DATA
        blob.verify()


def test_a_broken_try_is_gone_on_with(store: BlobStore) -> None:
    with store.ingest(describe(DATA)) as ingest:
        ingest.write(DATA[:123])
    with store.ingest(describe(DATA)) as ingest:
        assert (ingest.offset, ingest.resumed) == (123, True)
        ingest.write(DATA[123:])
        ingest.commit()
    assert store.path(describe(DATA).digest).read_bytes() == DATA


def test_a_try_that_broke_before_its_commit_has_nothing_left_to_write(store: BlobStore) -> None:
    with store.ingest(describe(DATA)) as ingest:
        ingest.write(DATA)
    with store.ingest(describe(DATA)) as ingest:
        assert ingest.offset == len(DATA)
        ingest.commit()
    assert store.has(describe(DATA))


def test_a_try_without_a_byte_leaves_no_file(store: BlobStore) -> None:
    with store.ingest(describe(DATA)):
        pass
    assert partial(store) == []


@pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"x", b""], ids=["short", "changed", "empty"])
def test_what_is_not_the_promised_blob_is_dropped(store: BlobStore, data: bytes) -> None:
    with store.ingest(describe(DATA)) as ingest:
        ingest.write(data)
        with pytest.raises(ImageDamaged, match=describe(DATA).digest.hex):
            ingest.commit()
    assert partial(store) == []
    assert not store.has(describe(DATA))


def test_more_bytes_than_promised_are_refused_as_they_come(store: BlobStore) -> None:
    with store.ingest(describe(DATA)) as ingest:
        ingest.write(DATA)
        with pytest.raises(ImageDamaged, match="more than"):
            ingest.write(b"x")
        with pytest.raises(ImageDamaged, match="dropped"):
            ingest.commit()
    assert partial(store) == []


def test_a_source_without_ranges_begins_anew(store: BlobStore) -> None:
    with store.ingest(describe(DATA)) as ingest:
        ingest.write(b"what another registry gave")
    with store.ingest(describe(DATA)) as ingest:
        ingest.restart()
        assert (ingest.offset, ingest.resumed) == (0, False)
        ingest.write(DATA)
        ingest.commit()
    assert store.has(describe(DATA))


def test_bytes_beyond_the_size_from_an_earlier_try_are_forgotten(store: BlobStore) -> None:
    with store.ingest(describe(DATA, size=10_000)) as ingest:
        ingest.write(DATA + DATA)
    with store.ingest(describe(DATA)) as ingest:
        assert ingest.offset == 0


@given(pieces=st.lists(st.binary(min_size=1, max_size=50), max_size=8), cuts=st.lists(st.booleans(), max_size=8))
def test_however_often_it_is_cut_off_the_whole_comes_in(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], cuts: list[bool]
) -> None:
    store, whole = BlobStore(tmp_path_factory.mktemp("images")), b"".join(pieces)
    rest = iter(cuts)
    while not store.has(describe(whole)):
        with store.ingest(describe(whole)) as ingest:
            while ingest.offset < len(whole):
                ingest.write(whole[ingest.offset : ingest.offset + 7])
                if next(rest, False):
                    break
            else:
                ingest.commit()
    assert store.path(describe(whole).digest).read_bytes() == whole


def test_two_at_once_do_not_disturb_each_other(store: BlobStore) -> None:
    with store.ingest(describe(DATA)) as first, store.ingest(describe(DATA)) as second:
        first.write(DATA[:500])
        assert second.offset == 0
        second.write(DATA)
        second.commit()
        assert store.has(describe(DATA))
        first.write(DATA[500:])
        first.commit()
    assert store.path(describe(DATA).digest).read_bytes() == DATA
    assert partial(store) == []


def test_the_second_of_two_leaves_nothing_that_could_not_be_gone_on_with(store: BlobStore) -> None:
    with store.ingest(describe(DATA)) as first:
        first.write(DATA[:500])
        with store.ingest(describe(DATA)) as second:
            second.write(DATA[:100])
        assert len(partial(store)) == 1
    with store.ingest(describe(DATA)) as third:
        assert third.offset == 500


def test_a_blob_that_was_cut_since_is_not_there_and_comes_in_again(store: BlobStore) -> None:
    descriptor = store.put(DATA, "text/plain")
    os.truncate(store.path(descriptor.digest), 5)
    assert not store.has(descriptor)
    assert store.put(DATA, "text/plain") == descriptor
    assert store.has(descriptor)


def test_a_blob_whose_bytes_have_changed_is_discarded_and_a_sound_one_is_not(store: BlobStore) -> None:
    descriptor = store.put(DATA, "text/plain")
    assert not store.discard_damaged(descriptor.digest)
    store.path(descriptor.digest).write_bytes(DATA[:-1] + b"x")
    assert store.has(descriptor)
    assert store.discard_damaged(descriptor.digest)
    assert not store.has(descriptor)


def test_what_can_never_fit_is_refused_before_a_byte_is_read(store: BlobStore) -> None:
    with pytest.raises(StorageFull, match="prune"), store.ingest(describe(DATA, size=2**60)):
        pytest.fail("it was opened")
    assert partial(store) == []


def test_what_is_used_is_held_for_as_long_as_its_lease(tmp_path: Path) -> None:
    files = StoreFiles(tmp_path / "images")
    with open_lease(files) as lease:
        store = BlobStore(files.directory, lease)
        put = store.put(DATA, "text/plain")
        store.has(describe(b"missing"))
        assert all_held(files) == {put.digest, describe(b"missing").digest}
        lease.release(put.digest)
        assert all_held(files) == {describe(b"missing").digest}
    assert all_held(files) == set()


def test_a_sweep_takes_what_is_old_or_of_no_use_and_nothing_that_is_being_written(store: BlobStore) -> None:
    files = StoreFiles(store.directory)
    with store.ingest(describe(DATA)) as kept, store.ingest(describe(b"old")) as old:
        kept.write(DATA[:100])
        old.write(b"o")
        sweep_partial(files, unused_since=ALWAYS)
        assert len(partial(store)) == 2
    (files.partial / f"{partial(store)[0]}.0123").write_bytes(b"of a second one that was killed")
    sweep_partial(files, unused_since=NEVER)
    assert len(partial(store)) == 2
    assert sweep_partial(files, unused_since=ALWAYS) > 0
    assert partial(store) == []


_KILLED = """
import os, sys
from pathlib import Path
from boxlite.images.store.blobs import BlobStore
from boxlite.images.store.files import StoreFiles
from boxlite.images.store.leases import open_lease
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
directory, stage, digest, data = Path(sys.argv[1]), sys.argv[2], Digest.parse(sys.argv[3]), sys.argv[4].encode()
def at(name):
    if name == stage:
        print("there", flush=True)
        sys.stdin.read()
with open_lease(StoreFiles(directory)) as lease:
    store = BlobStore(directory, lease)
    with store.ingest(Descriptor("", digest, len(data))) as ingest:
        at("opened")
        ingest.write(data[:400])
        at("half")
        ingest.write(data[400:])
        at("whole")
        fsync = os.fsync
        os.fsync = lambda fd: (fsync(fd), at("synced"))
        ingest.commit()
        at("committed")
"""


@pytest.fixture(params=["opened", "half", "whole", "synced", "committed"])
def killed(store: BlobStore, request: pytest.FixtureRequest) -> str:
    arguments = [str(store.directory), request.param, str(describe(DATA).digest), DATA.decode()]
    command = [sys.executable, "-c", _KILLED, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        process.send_signal(signal.SIGKILL)
    assert isinstance(request.param, str)
    return request.param


def test_after_a_kill_at_any_point_the_next_try_ends_it(store: BlobStore, killed: str) -> None:
    assert all_held(StoreFiles(store.directory)) == set()
    assert store.has(describe(DATA)) == (killed == "committed")
    with store.ingest(describe(DATA)) as ingest:
        assert ingest.offset == {"opened": 0, "half": 400, "committed": 0}.get(killed, len(DATA))
        ingest.write(DATA[ingest.offset :])
        ingest.commit()
    assert store.path(describe(DATA).digest).read_bytes() == DATA
    assert partial(store) == []
