"""What an application opens: the runtime and its supervision tree."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypedDict, Unpack, final

import trio

from actors import ActorRef, ChildSpec, Supervisor, Tree, open_supervisor
from boxlite.boxes.boot import BootServices
from boxlite.boxes.box import Box, ask
from boxlite.boxes.options import BoxOptions
from boxlite.errors import BoxNotFound, InvalidOptions, RuntimeClosed, RuntimeFailed
from boxlite.images.actor import ImageActor, Prepare, PreparedImage
from boxlite.images.reference import parse_reference
from boxlite.portal.loop import open_asyncio_loop
from boxlite.runtime.actor import RuntimeActor
from boxlite.runtime.layout import find_home, find_socket_directory, open_run_directory
from boxlite.runtime.messages import BoxRecord, CreateBox, FindBox, ListBoxes
from boxlite.runtime.parts import Parts
from boxlite.vmm.engines import EngineChoice
from boxlite.vmm.zygote import open_zygote
from vmm_ffi.spec import VmmKind

REMOVE_GRACE = 30.0
"""Seconds that leaving the block of `open_box` waits for the box to be gone."""


class CreateOptions(TypedDict, total=False):
    """The options of `Runtime.create` and `Runtime.open_box`; see `BoxOptions` for meaning and units."""

    name: str
    cpus: int
    memory_mib: int
    disk_mib: int
    env: Mapping[str, str]
    user: str | None
    boot_timeout: float | None


@final
class Runtime:
    """Makes and finds boxes. `open_runtime` gives it; any number of tasks may use it at once."""

    def __init__(self, ref: ActorRef, images: ActorRef, parts: Parts, supervisors: tuple[Supervisor, ...]) -> None:
        self._ref = ref
        self._images = images
        self._parts = parts
        self._supervisors = supervisors

    async def create(self, image: str, **options: Unpack[CreateOptions]) -> Box:
        """Creates a box and returns at once: its first use prepares the image, makes the disk and boots.

        It stays until `Box.remove`, or the end of the runtime. `image` is `builtin/python` or `oci:DIR[:TAG]`; a name
        is made up where none is given. Raises `InvalidReference`, `InvalidOptions` or `BoxExists`.
        """
        checked = BoxOptions(image=parse_reference(image), **options)
        return self._box(await ask(self._ref, CreateBox(checked)))

    @asynccontextmanager
    async def open_box(self, image: str, **options: Unpack[CreateOptions]) -> AsyncIterator[Box]:
        """A box for the block: created as by `create`, and removed at the end with all that it wrote.

        The removal is shielded from cancellation and takes at most `REMOVE_GRACE` seconds.
        """
        box = await self.create(image, **options)
        try:
            yield box
        finally:
            with trio.move_on_after(REMOVE_GRACE, shield=True), suppress(RuntimeClosed, BoxNotFound):
                await box.remove(force=True)

    async def get(self, name: str) -> Box:
        """The box of that name; raises `BoxNotFound`."""
        return self._box(await ask(self._ref, FindBox(name)))

    async def list(self) -> tuple[Box, ...]:
        """All boxes, in the order in which they were created."""
        return tuple(self._box(record) for record in await ask(self._ref, ListBoxes()))

    async def prepare(self, image: str) -> PreparedImage:
        """Makes an image ready for boxes, which they otherwise do at their start; gives its digest and configuration.

        Raises `InvalidReference` or another `ImageError`. Cancelling stops the work, unless another task waits for it.
        """
        return await ask(self._images, Prepare(parse_reference(image)))

    async def engine(self) -> EngineChoice:
        """Which engine runs the boxes, and why; raises `EngineUnavailable`."""
        return await self._parts.engine()

    def tree(self) -> tuple[Tree, ...]:
        """The supervisors and their actors at this moment."""
        return tuple(supervisor.tree() for supervisor in self._supervisors)

    def _box(self, record: BoxRecord) -> Box:
        return Box(record.options, record.ref, self._ref)


@asynccontextmanager
async def open_runtime(
    *,
    home: str | os.PathLike[str] | None = None,
    runtime_dir: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    kernel: str | os.PathLike[str] | None = None,
) -> AsyncIterator[Runtime]:
    """Opens a runtime in any Trio program; leaving the block, in any way, ends its boxes and leaves nothing behind.

    `home` keeps images and other things worth keeping (default: $BOXLITE_HOME, else ~/.boxlite); many runtimes may
    share one. `runtime_dir` holds sockets, so its path must be short (default: $BOXLITE_RUNTIME_DIR, else
    $XDG_RUNTIME_DIR, else the system's temporary directory). `engine` is "auto" or "qemu". `kernel` is an ELF file to
    boot in place of libkrunfw's kernel.

    What the block raises comes out as it is. Raises `InvalidOptions`, `DiskError` where the home cannot be written,
    `SocketPathTooLong`, and `RuntimeFailed` where the runtime's own actors crash too often.
    """
    where, sockets = find_home(home), find_socket_directory(runtime_dir)
    parts = Parts(where, engine=_engine_kind(engine), kernel=None if kernel is None else Path(kernel))
    raised: BaseException | None = None
    try:
        with open_run_directory(where, sockets) as run:
            async with (
                open_asyncio_loop() as loop,
                open_zygote() as zygote,
                open_supervisor("runtime") as system,
                open_supervisor("boxes") as boxes,
            ):
                images = await system.start_child(ChildSpec("images", lambda: ImageActor(where.disks, where.builtin)))
                services = BootServices(images=images, parts=parts, zygote=zygote, loop=loop, sockets=run.sockets)
                records: dict[str, BoxRecord] = {}
                ref = await system.start_child(
                    ChildSpec("boxes", lambda: RuntimeActor(boxes, run.boxes, services, records))
                )
                try:
                    yield Runtime(ref, images, parts, (system, boxes))
                except BaseException as error:
                    # The nurseries below would wrap it in a group each; a cancellation is theirs to handle.
                    if _holds_cancelled(error):
                        raise
                    raised = error
    except ExceptionGroup as crash:
        failure = RuntimeFailed("the runtime's own actors crashed; see the causes below")
        failure.__cause__ = crash
        if raised is None:
            raise failure from crash
        raise BaseExceptionGroup("the block and the runtime both failed", [raised, failure]) from None
    if raised is not None:
        raise raised


def _engine_kind(engine: str) -> VmmKind | None:
    if engine == "auto":
        return None
    try:
        return VmmKind(engine)
    except ValueError:
        raise InvalidOptions(f"the engine is 'auto' or 'qemu', not {engine!r}") from None


def _holds_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)
