"""What a runtime does with the images of its home: finds, pulls, names, loads, saves and removes them."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol, final

import attrs
import trio

from boxlite.errors import ImageError, ImageNotFound, InvalidOptions
from boxlite.images.digest import Digest
from boxlite.images.exchange.daemons import fetch
from boxlite.images.exchange.loading import Loaded, Loader
from boxlite.images.exchange.saving import Saved, tar_chunks, write_directory
from boxlite.images.layout import host_architecture
from boxlite.images.limits import Limits
from boxlite.images.lookup import look_up, match_id
from boxlite.images.messages import ArchiveFormat, PullPolicy, Sink
from boxlite.images.naming import new_name, possible_names, reads_as_id, stored_name
from boxlite.images.pulls import Pulls
from boxlite.images.reference import DEFAULT_TAG, RegistryReference
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.registry.progress import OnProgress, ignore_progress
from boxlite.images.store.files import storage_errors
from boxlite.images.store.images import ImageStore
from boxlite.images.store.index import Entry
from boxlite.images.store.leases import Lease
from boxlite.images.store.records import ImageDetails, ImageInfo, Removed
from boxlite.images.workspace import open_workspace

SPARED_SECONDS: Final = 600.0
"""An eviction spares what this runtime has used so lately: a box may be about to start from it."""


class BoxUsers(Protocol):
    """The boxes that are made from images."""

    def refresh(self) -> frozenset[Digest]:
        """Looks at this runtime's own boxes, in its own thread; gives what they are made from."""

    def __call__(self) -> Mapping[Digest, Sequence[str]]:
        """Names of boxes by the digests of their images; in any thread. Raises `StoreFailed`."""


@final
class NoUsers:
    """`BoxUsers` where nobody makes boxes."""

    def refresh(self) -> frozenset[Digest]:
        """None."""
        return frozenset()

    def __call__(self) -> Mapping[Digest, Sequence[str]]:
        """None."""
        return {}


@final
class Library:
    """Of one image actor, for one life of it."""

    def __init__(
        self,
        store: ImageStore,
        lease: Lease,
        users: BoxUsers,
        load_config: Callable[[], RegistryConfig],
        start_soon: Callable[[Callable[[], Awaitable[None]]], None],
        *,
        limits: Limits,
        limit_bytes: int | None,
    ) -> None:
        """`lease` is the runtime's own; `start_soon` is that of `SharedWork`."""
        self.store = store
        self._lease = lease
        self._users = users
        self._load_config = load_config
        self._pulls = Pulls(start_soon)
        self._limits = limits
        self._limit_bytes = limit_bytes
        self._using: Counter[Digest] = Counter()
        self._used_at: dict[Digest, float] = {}

    # What is in use

    @contextmanager
    def using(self, digest: Digest) -> Iterator[None]:
        """Keeps an image and its disk for the block, and, as long as nobody here wants to remove any, beyond it."""
        self.store.hold(self._lease, digest)
        self._using[digest] += 1
        try:
            yield
        finally:
            self._using[digest] -= 1
            self._used_at[digest] = trio.current_time()

    def _settle(self, spared_seconds: float = 0.0) -> None:
        """Lets go of what neither a box of this runtime nor a task of this actor uses."""
        needed = self._users.refresh() | {digest for digest, count in self._using.items() if count > 0}
        oldest = trio.current_time() - spared_seconds
        for digest in self._lease.held():
            if digest in needed:
                continue
            if spared_seconds and self._used_at.get(digest, oldest) > oldest:
                continue
            self._lease.release(digest)
            self._used_at.pop(digest, None)
        for digest in needed:
            self.store.hold(self._lease, digest)

    # Finding

    async def resolve(self, reference: RegistryReference, policy: PullPolicy) -> Digest:
        """What the name stands for; it is pulled first where the policy says so. Raises an `ImageError`."""
        if policy is not PullPolicy.ALWAYS:
            entry = await trio.to_thread.run_sync(self._find, reference)
            if entry is not None:
                digest = entry.manifest.digest
                with self.using(digest):
                    return digest
            if reference.is_short and reference.repository == "sha256":
                raise ImageNotFound(f"there is no image with the id {reference} here")
            if policy is PullPolicy.NEVER:
                raise ImageNotFound(f"there is no image {reference} here, and it may not be pulled")
        return await self.pull(reference)

    def _find(self, reference: RegistryReference) -> Entry | None:
        found = self.store.find(possible_names(reference, self._load_config()))
        if found is None and reference.is_short and reference.digest is None:
            # What reads as a short name may be an image's id: `3f2a9c`, or `sha256:3f2a9c...`.
            text = reference.repository if reference.tag == DEFAULT_TAG else f"{reference.repository}:{reference.tag}"
            matching = match_id(self.store, text)
            found = matching[0] if len(matching) == 1 else None
        return found

    def _get(self, text: str) -> tuple[Entry, str | None]:
        return look_up(self.store, text, self._load_config())

    async def list(self) -> tuple[ImageInfo, ...]:
        """See `ImageStore.list_images`."""
        self._users.refresh()
        return await trio.to_thread.run_sync(self.store.list_images)

    async def info(self, text: str) -> ImageInfo:
        """Raises `ImageNotFound`."""
        self._users.refresh()
        return await trio.to_thread.run_sync(lambda: self.store.info(self._get(text)[0].manifest.digest))

    async def details(self, text: str) -> ImageDetails:
        """Raises `ImageNotFound` and other `ImageError`s."""
        self._users.refresh()
        return await trio.to_thread.run_sync(lambda: self.store.details(self._get(text)[0].manifest.digest))

    # Pulling

    async def pull(self, reference: RegistryReference, listener: OnProgress = ignore_progress) -> Digest:
        """Brings the image in, and gives it its name; one pull for all who ask at the same time."""
        if reads_as_id(reference):
            raise ImageNotFound(f"{reference} reads as the id of an image, by which no registry gives one: use a name")
        work = partial(self._pull, reference, named=True)
        return await self._pulls.get(str(reference), listener, work)

    async def pull_recorded(self, reference: RegistryReference, digest: Digest) -> None:
        """Brings the image with that manifest in again, whatever the name stands for by now."""
        wanted = attrs.evolve(reference, tag=None, digest=digest)
        await self._pulls.get(str(wanted), ignore_progress, partial(self._pull, wanted, named=False))

    async def _pull(self, reference: RegistryReference, tell: OnProgress, *, named: bool) -> Digest:
        # It loads httpx, which takes a while.
        from boxlite.images.registry.pull import locate, pull_image

        config, architecture = self._load_config(), host_architecture()
        full = await locate(reference, config=config, architecture=architecture)
        names = [stored_name(full)] if named else []
        with self.store.open_lease() as lease:
            manifest = await pull_image(
                full, self.store.blobs(lease), config=config, architecture=architecture, on_progress=tell
            )
            await trio.to_thread.run_sync(partial(self.store.add, manifest, names, pulled=True))
            with self.using(manifest.digest):
                pass
        await self.evict()
        return manifest.digest

    # Changing

    async def tag(self, text: str, name: str) -> str:
        """Gives the image one more name, and says it in full. Raises `InvalidReference` and `ImageNotFound`."""

        def tag() -> str:
            full = new_name(name, self._load_config())
            self.store.tag(self._get(text)[0].manifest.digest, full)
            return full

        return await trio.to_thread.run_sync(tag)

    async def remove(self, text: str, *, force: bool) -> Removed:
        """See `ImageStore.remove`."""
        self._settle()

        def remove() -> Removed:
            entry, name = self._get(text)
            return self.store.remove(entry.manifest.digest, name, force=force)

        return await trio.to_thread.run_sync(remove)

    async def prune(self, *, every: bool, unused_for: float) -> Removed:
        """See `ImageStore.prune`."""
        self._settle()
        return await trio.to_thread.run_sync(partial(self.store.prune, every=every, unused_for=unused_for))

    async def evict(self) -> None:
        """Keeps to the runtime's limit, where it has one."""
        if self._limit_bytes is not None:
            self._settle(SPARED_SECONDS)
            await trio.to_thread.run_sync(self.store.evict, self._limit_bytes)

    # Exchange with other tools

    async def load(self, source: Path | AsyncIterable[bytes], name: str | None) -> tuple[ImageInfo, ...]:
        """See `LoadImages`."""
        if isinstance(source, Path):
            return await self._load(source, name, str(source))
        self.store.files.make()
        with open_workspace(self.store.files.directory) as workspace:
            path = workspace.path / "archive"
            with storage_errors("the archive"):
                async with await trio.open_file(path, "xb") as file:
                    async for chunk in source:
                        await file.write(chunk)
            return await self._load(path, name, "the archive")

    async def load_from(self, daemon: str, name: str) -> tuple[ImageInfo, ...]:
        """See `ImportImages`."""
        self.store.files.make()
        with open_workspace(self.store.files.directory) as workspace:
            path = workspace.path / "archive"
            await fetch(daemon, name, path)
            # By its id it comes without a name.
            return await self._load(path, None, f"the image {name} of {daemon}")

    async def _load(self, source: Path, name: str | None, what: str) -> tuple[ImageInfo, ...]:
        with self.store.open_lease() as lease:
            config = self._load_config()
            full = None if name is None else new_name(name, config)

            def load() -> tuple[Loaded, ...]:
                check = trio.from_thread.check_cancelled
                loader = Loader(self.store.blobs(lease), config, host_architecture(), self._limits, check)
                try:
                    loaded = loader.load(source)
                except ImageError as error:
                    raise type(error)(f"{what} cannot be loaded: {error}") from error
                if full is not None and len(loaded) != 1:
                    raise InvalidOptions(f"{what} has {len(loaded)} images, of which only one can be called {name}")
                for image in loaded:
                    self.store.add(image.manifest, [full] if full else image.names, pulled=False)
                return loaded

            loaded = await trio.to_thread.run_sync(load)
            self._users.refresh()
            infos = [await trio.to_thread.run_sync(self.store.info, image.manifest.digest) for image in loaded]
        await self.evict()
        return tuple(infos)

    async def save(self, images: Sequence[str], target: Path | Sink, format: ArchiveFormat) -> None:
        """See `SaveImages`."""
        if not images:
            raise InvalidOptions("say which images to save")
        if not isinstance(target, Path) and format is ArchiveFormat.DIRECTORY:
            raise InvalidOptions("a directory cannot be written to a stream: name one, or choose an archive")
        with self.store.open_lease() as lease:
            saved = await trio.to_thread.run_sync(self._to_save, images, lease)
            directory = self.store.files.directory
            if format is ArchiveFormat.DIRECTORY:
                assert isinstance(target, Path)
                check = trio.from_thread.check_cancelled
                await trio.to_thread.run_sync(partial(write_directory, saved, directory, target, check=check))
                return
            chunks = tar_chunks(saved, directory, docker=format is ArchiveFormat.DOCKER)
            if isinstance(target, Path):
                await _write_file(chunks, target)
            else:
                await _send(chunks, target)

    def _to_save(self, images: Sequence[str], lease: Lease) -> tuple[Saved, ...]:
        """Once for each image, with the names by which it was called, or all where that was its id."""
        names: dict[Digest, list[str]] = {}
        for text in images:
            entry, name = self._get(text)
            digest = entry.manifest.digest
            self.store.hold(lease, digest)
            names.setdefault(digest, []).extend([name] if name else entry.names)
        return tuple(
            Saved(self.store.read(digest, None), tuple(dict.fromkeys(called))) for digest, called in names.items()
        )


async def _send(chunks: Iterator[bytes], sink: Sink) -> None:
    while (chunk := await trio.to_thread.run_sync(next, chunks, None)) is not None:
        await sink(chunk)


async def _write_file(chunks: Iterator[bytes], target: Path) -> None:
    """The file is whole, or as it was before. A pipe or a device is written to, and stays what it is."""
    file = await trio.to_thread.run_sync(_file_of, target)
    if file is None:
        await _write(chunks, target, "wb")
        return
    target = file
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.unfinished")
    try:
        await _write(chunks, temporary, "xb")
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


async def _write(chunks: Iterator[bytes], target: Path, mode: Literal["wb", "xb"]) -> None:
    with storage_errors(f"the archive {target}"):
        async with await trio.open_file(target, mode) as file:

            async def write(chunk: bytes) -> None:
                await file.write(chunk)

            await _send(chunks, write)


def _file_of(target: Path) -> Path | None:
    """The file to write, which a link there leads to; None for what is none. Raises `InvalidOptions`."""
    if target.exists() and not target.is_file():
        if target.is_dir():
            raise InvalidOptions(f"{target} is a directory: name a file in it")
        return None
    file = target.resolve()
    if not file.parent.is_dir():
        raise InvalidOptions(f"there is no directory {file.parent} to write {file.name} to: make it first")
    return file
