"""Random pulls, tags, removals, evictions and crashes, held against what a store promises."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from boxlite.errors import ImageInUse
from boxlite.images.blobs import Descriptor
from boxlite.images.digest import Digest
from boxlite.images.store import garbage
from boxlite.images.store.blobs import BlobStore
from boxlite.images.store.files import StoreFiles
from tests.images.archives import archive, file
from tests.images.layouts import blob_path, find_blobs, put_image
from tests.images.store.kills import killed_at
from tests.images.store.stores import own_store

LAYERS = [archive(file(name)) for name in (b"a", b"b", b"c")]
IMAGES = [LAYERS[:1], LAYERS[:2], LAYERS[1:], LAYERS]
NAMES = ["example.com/a:1", "example.com/b:1", "example.com/c:1"]


images = st.sampled_from(range(len(IMAGES)))
names = st.sampled_from(NAMES)
steps = st.none() | st.integers(0, 30)


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.own = own_store(self.directory)
        self.source = self.directory / "registry"
        self.manifests = [put_image(self.source, archives) for archives in IMAGES]
        self.digests = [Digest.parse(manifest["digest"]) for manifest in self.manifests]
        self.names: dict[str, Digest] = {}
        self.listed: set[Digest] = set()
        self.loaded: set[Digest] = set()
        self.leases = ExitStack()
        self.held: set[Digest] = set()

    def teardown(self) -> None:
        self.leases.close()
        shutil.rmtree(self.directory)

    def do(self, crash: int | None, work: Callable[[], object]) -> None:
        """The work, cut off or not; then the names are those that the store has."""
        if crash is None:
            work()
        else:
            killed_at(crash, work)
        infos = self.own.store.list_images()
        self.names = {name: Digest.parse(info.id) for info in infos for name in info.names}
        self.listed = {Digest.parse(info.id) for info in infos}

    @property
    def busy(self) -> set[Digest]:
        return self.held | set(self.own.users)

    @initialize()
    def fill(self) -> None:
        for image, name in enumerate(NAMES):
            self.bring_in_whole(image, name)

    @rule(image=images, name=names)
    def bring_in_whole(self, image: int, name: str) -> None:
        self.bring_in(image, name, True, None)

    @rule(image=images, name=names | st.none(), pulled=st.booleans(), crash=steps)
    def bring_in(self, image: int, name: str | None, pulled: bool, crash: int | None) -> None:
        self.own.now += 1
        digest, names = self.digests[image], [] if name is None else [name]
        if not pulled and digest not in self.listed:
            self.loaded.add(digest)
        elif pulled:
            self.loaded.discard(digest)
        before = (self.names, self.listed)
        after = (self.names | dict.fromkeys(names, digest), self.listed | {digest})
        self.do(crash, lambda: self.bring(image, names, pulled))
        assert (self.names, self.listed) in ((after,) if crash is None else (before, after))

    def bring(self, image: int, names: list[str], pulled: bool) -> None:
        with self.own.store.open_lease() as lease:
            blobs = self.own.store.blobs(lease)
            for part in reversed(self.parts(image)):
                self.fetch(blobs, part)
            self.own.store.add(self.parts(image)[0], names, pulled=pulled)

    def parts(self, image: int) -> list[Descriptor]:
        written = self.manifests[image]
        manifest = Descriptor(written["mediaType"], self.digests[image], written["size"])
        return [manifest, *garbage.parts(StoreFiles(self.source), manifest)]

    def fetch(self, blobs: BlobStore, part: Descriptor) -> None:
        data = blob_path(self.source, str(part.digest)).read_bytes()
        if not blobs.has(part):
            with blobs.ingest(part) as ingest:
                while ingest.offset < len(data):
                    ingest.write(data[ingest.offset : ingest.offset + 1000])
                ingest.commit()

    @rule(image=images, name=names, crash=steps)
    def tag(self, image: int, name: str, crash: int | None) -> None:
        if self.digests[image] not in self.listed:
            return
        before, after = self.names, self.names | {name: self.digests[image]}
        self.do(crash, lambda: self.own.store.tag(self.digests[image], name))
        assert self.names in ((after,) if crash is None else (before, after))

    @rule(image=images, name=names | st.none(), force=st.booleans(), crash=steps)
    def remove(self, image: int, name: str | None, force: bool, crash: int | None) -> None:
        digest = self.digests[image] if name is None else self.names.get(name)
        if digest not in self.listed or digest is None:
            return
        own_names = {each for each, its in self.names.items() if its == digest}
        rest = own_names - {name} if name else set()
        if crash is not None:
            before = (self.names, self.listed)
            self.do(crash, lambda: self.own.store.remove(digest, name, force=force))
            assert before[1] - self.listed <= {digest} - self.busy
            assert self.names.items() <= before[0].items()
            return
        try:
            removed = self.own.store.remove(digest, name, force=force)
        except ImageInUse:
            assert not force
            assert not rest
            assert digest in self.busy or len(own_names) > 1
        else:
            assert set(removed.untagged) == own_names - rest
            assert removed.deleted == (() if rest or digest in self.busy else (str(digest),))
            assert force or rest or digest not in self.busy
            self.names = {each: its for each, its in self.names.items() if each not in removed.untagged}
            self.listed -= {Digest.parse(gone) for gone in removed.deleted}

    @rule(every=st.booleans(), crash=steps)
    def prune(self, every: bool, crash: int | None) -> None:
        named = set(self.names.values())
        if crash is not None:
            listed = self.listed
            self.do(crash, lambda: self.own.store.prune(every=every))
            assert not (listed - self.listed) & self.busy
            return
        removed = self.own.store.prune(every=every)
        gone = {digest for digest in self.listed if digest not in self.busy and (every or digest not in named)}
        assert {Digest.parse(each) for each in removed.deleted} == gone
        self.listed -= gone
        self.names = {name: digest for name, digest in self.names.items() if digest not in gone}
        directory = self.own.store.files.directory
        assert find_blobs(directory) == {each.hex for each in self.own.closure(*self.listed, *self.busy)} & find_blobs(
            directory
        )
        assert os.listdir(self.own.store.files.partial) == []
        if every:
            assert {digest for digest, _ in garbage.disks(self.own.disks)} <= self.listed | self.busy

    @rule(limit=st.sampled_from((0, 40_000, 60_000, 1 << 30)), crash=steps)
    def evict(self, limit: int, crash: int | None) -> None:
        before = set(self.listed)
        self.do(crash, lambda: self.own.store.evict(limit))
        if crash is None:
            left = self.listed - self.busy - self.loaded
            assert garbage.total_room(self.own.store.files, self.own.disks) <= limit or not left
        assert before - self.listed <= before - self.busy - self.loaded

    @rule(image=images)
    def build_disk(self, image: int) -> None:
        if self.digests[image] in self.listed:
            self.own.disks.mkdir(exist_ok=True)
            (self.own.disks / f"sha256-{self.digests[image].hex}.1.ext4").write_bytes(b"x" * 5000)

    @rule(image=images)
    def make_box(self, image: int) -> None:
        if self.digests[image] in self.listed:
            self.own.users[self.digests[image]] = ["box"]

    @rule()
    def remove_boxes(self) -> None:
        self.own.users.clear()

    @rule(image=images)
    def hold_elsewhere(self, image: int) -> None:
        if self.digests[image] in self.listed:
            self.own.store.hold(self.leases.enter_context(self.own.store.open_lease()), self.digests[image])
            self.held.add(self.digests[image])

    @rule()
    def end_elsewhere(self) -> None:
        self.leases.close()
        self.held.clear()

    @invariant()
    def names_are_as_told(self) -> None:
        infos = self.own.store.list_images()
        assert {name: Digest.parse(info.id) for info in infos for name in info.names} == self.names
        assert {Digest.parse(info.id) for info in infos} == self.listed

    @invariant()
    def what_is_listed_or_in_use_is_whole(self) -> None:
        for digest in self.listed | self.busy:
            for part in self.own.closure(digest):
                path = self.own.store.files.blob(part)
                assert path.read_bytes() == blob_path(self.source, str(part)).read_bytes()


# Each step takes milliseconds; shrinking thousands of them would take minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
TestStore = Store.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=20, phases=PHASES)
