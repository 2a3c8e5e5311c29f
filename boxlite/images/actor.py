"""The actor that turns names of images into disks, and has the images of its home: one per runtime."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from actors import Actor, Deferred, Message
from boxlite.errors import BoxliteError, ImageDamaged, ImageNotFound
from boxlite.images.builtin import ensure_builtin
from boxlite.images.digest import Digest
from boxlite.images.disk import FORMAT_VERSION, build_disk
from boxlite.images.layout import LayoutImage, find_image, host_architecture, read_image
from boxlite.images.library import BoxUsers, Library, NoUsers
from boxlite.images.limits import DEFAULT_LIMITS, Limits
from boxlite.images.messages import (
    GetImage,
    ImportImages,
    InspectImage,
    ListImages,
    LoadImages,
    Prepare,
    PreparedImage,
    PruneImages,
    PullImage,
    PullPolicy,
    RemoveImage,
    ResolveImage,
    SaveImages,
    TagImage,
)
from boxlite.images.reference import BuiltinReference, LayoutReference, RegistryReference
from boxlite.images.registry.config import RegistryConfig
from boxlite.images.shared import SharedWork
from boxlite.images.store import garbage
from boxlite.images.store.files import StoreFiles
from boxlite.images.store.images import ImageStore
from boxlite.images.store.records import ImageInfo
from boxlite.images.workspace import remove_abandoned

_CONCURRENT_BUILDS = 2
"""They are bound by one processor and one disk, which the virtual machines want too."""


@attrs.frozen(kw_only=True)
class ImageFiles:
    """Where an actor keeps what. All of it is made where it is missing, and may be shared with other processes."""

    disks: Path
    """One disk per image digest."""
    builtins: Path
    images: Path
    """The store of what was pulled and loaded."""


class ImageActor(Actor):
    """Answers what is in `boxlite.images.messages`."""

    def __init__(
        self,
        files: ImageFiles,
        users: BoxUsers | None = None,
        load_config: Callable[[], RegistryConfig] = RegistryConfig,
        *,
        limits: Limits = DEFAULT_LIMITS,
        limit_bytes: int | None = None,
    ) -> None:
        """Without `users` there are no boxes.

        `load_config` is called whenever a name is looked up; it raises `InvalidRegistryConfig`.

        `limit_bytes` is the room that images and disks may take together; None is no limit.
        """
        self._files = files
        self._users = users or NoUsers()
        self._load_config = load_config
        self._limits = limits
        self._limit_bytes = limit_bytes
        self._store = ImageStore(files.images, files.disks, self._users)
        self._closing = ExitStack()
        self._layouts: SharedWork[str, Path] = SharedWork(self.start_soon)
        self._builds: SharedWork[Path, None] = SharedWork(self.start_soon)
        self._build_limiter = trio.CapacityLimiter(_CONCURRENT_BUILDS)

    async def started(self) -> None:
        """Removes what killed processes left unfinished."""
        for directory in (self._files.disks, self._files.builtins, self._files.images):
            await trio.to_thread.run_sync(_clean, directory)
        lease = self._closing.enter_context(self._store.open_lease())
        self._library = Library(
            self._store,
            lease,
            self._users,
            self._load_config,
            self.start_soon,
            limits=self._limits,
            limit_bytes=self._limit_bytes,
        )

    async def stopped(self) -> None:
        """Other processes may remove what only this one has used."""
        self._closing.close()

    async def handle(self, message: Message[Any]) -> Any:
        """See `boxlite.images.messages`."""
        work = self._work(message)
        if work is None:
            return await super().handle(message)
        self.start_soon(self._answer, work, self.defer(message))
        return None

    def _work(self, message: Message[Any]) -> Callable[[], Awaitable[object]] | None:
        library = self._library
        match message:
            case Prepare():
                return partial(self._prepare, message)
            case ResolveImage(reference, policy):
                return partial(library.resolve, reference, policy)
            case PullImage():
                return partial(self._pull, message)
            case ListImages():
                return library.list
            case GetImage(image):
                return partial(library.info, image)
            case InspectImage(image):
                return partial(library.details, image)
            case TagImage(image, name):
                return partial(library.tag, image, name)
            case RemoveImage(image, force):
                return partial(library.remove, image, force=force)
            case PruneImages(every, unused_for):
                return partial(library.prune, every=every, unused_for=unused_for)
            case LoadImages(source, name):
                return partial(library.load, source, name)
            case ImportImages(daemon, name):
                return partial(library.load_from, daemon, name)
            case SaveImages(images, target, format):
                return partial(library.save, images, target, format)
        return None

    async def _answer(self, work: Callable[[], Awaitable[object]], deferred: Deferred[Any]) -> None:
        with trio.CancelScope() as scope:
            deferred.on_abandon(scope.cancel)
            try:
                result = await work()
            except (BoxliteError, OSError) as error:
                deferred.fail(error)
            else:
                deferred.reply(result)

    async def _pull(self, message: PullImage) -> ImageInfo:
        digest = await self._library.pull(message.reference, message.on_progress)
        self._users.refresh()
        return await trio.to_thread.run_sync(self._store.info, digest)

    # Disks

    async def _prepare(self, message: Prepare) -> PreparedImage:
        repaired = False
        while True:
            image = await self._find(message)
            try:
                # Both finds may see it, and it may be gone, or damaged, by the time that its layers are read.
                with self._library.using(image.digest):
                    return await self._prepared(message, image)
            except (ImageDamaged, ImageNotFound):
                reference = message.reference
                if repaired or not isinstance(reference, RegistryReference) or not await self._drop_damaged(image):
                    raise
                await self._library.pull_recorded(reference, image.digest)
                repaired = True

    async def _prepared(self, message: Prepare, image: LayoutImage) -> PreparedImage:
        disk = self._files.disks / disk_name(image.digest)
        if not await trio.Path(disk).exists():
            await self._builds.get(disk, partial(self._build, image, disk))
            await self._library.evict()
        await trio.to_thread.run_sync(self._store.touch, image.digest)
        return PreparedImage(message.reference, image.digest, disk, image.config)

    async def _find(self, message: Prepare) -> LayoutImage:
        reference, recorded = message.reference, message.recorded
        match reference:
            case BuiltinReference(name):
                layout = await self._layouts.get(name, partial(ensure_builtin, name, self._files.builtins))
                return await trio.to_thread.run_sync(_find_in_layout, layout, None, None)
            case LayoutReference(directory, tag):
                return await trio.to_thread.run_sync(_find_in_layout, directory, tag, recorded)
            case RegistryReference():
                digest = recorded or await self._library.resolve(reference, PullPolicy.MISSING)
                with self._library.using(digest):
                    try:
                        return await trio.to_thread.run_sync(self._store.read, digest, host_architecture())
                    except ImageNotFound:
                        await self._library.pull_recorded(reference, digest)
                        return await trio.to_thread.run_sync(self._store.read, digest, host_architecture())

    async def _drop_damaged(self, image: LayoutImage) -> bool:
        """Removes the parts of a stored image whose bytes have changed; says whether any is missing then."""

        def drop() -> bool:
            check = trio.from_thread.check_cancelled
            with self._store.open_lease() as lease:
                blobs = self._store.blobs(lease)
                parts = garbage.parts(self._store.files, image.manifest)
                dropped = [blobs.discard_damaged(part.digest, check=check) for part in parts]
                return any(dropped)

        return await trio.to_thread.run_sync(drop)

    async def _build(self, image: LayoutImage, disk: Path) -> None:
        await trio.to_thread.run_sync(_build_unless_there, image, disk, self._limits, limiter=self._build_limiter)


def disk_name(digest: Digest) -> str:
    """Of the disk of an image, as this version of the package builds it."""
    return f"{digest.algorithm}-{digest.hex}.{FORMAT_VERSION}.ext4"


def _find_in_layout(layout: Path, tag: str | None, recorded: Digest | None) -> LayoutImage:
    """The image that a box was made from, if that is known, and else the one that is called so now."""
    architecture = host_architecture()
    if recorded is not None:
        manifest = garbage.find_manifest(StoreFiles(layout), recorded)
        if manifest is None:
            raise ImageNotFound(f"the image {recorded}, from which the box was made, is not in {layout} any more")
        return read_image(layout, manifest, architecture)
    return find_image(layout, tag, architecture)


def _clean(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_abandoned(directory)


def _build_unless_there(image: LayoutImage, disk: Path, limits: Limits) -> None:
    # An earlier build may have ended since the asker looked.
    if not disk.exists():
        build_disk(image.layers, disk, limits=limits, check=trio.from_thread.check_cancelled)
