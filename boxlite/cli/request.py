"""What one call of the command line asks for. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict, cast

import attrs

from boxlite.boxes.policy import HealthCheck, RestartPolicy
from boxlite.boxes.volumes import Volume
from boxlite.images.config import ImageConfig, argv_for_run
from boxlite.runtime.runtime import CreateOptions


class RuntimeOptions(TypedDict):
    """Which runtime a command opens."""

    home: str | None
    engine: str
    kernel: str | None
    jail: str | None


def _some(volumes: tuple[Volume, ...] | None) -> tuple[Volume, ...] | None:
    return volumes or None


@attrs.frozen(kw_only=True)
class BoxRequest:
    """A box; None leaves a choice to the image or to `BoxOptions`. Times are in seconds."""

    image: str
    pull: str = "missing"
    name: str | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    env: Mapping[str, str] = attrs.field(factory=dict)
    user: str | None = None
    boot_timeout: float | None = None
    restart: RestartPolicy | None = None
    health: HealthCheck | None = None
    detached: bool | None = None
    volumes: tuple[Volume, ...] | None = attrs.field(default=None, converter=_some)
    engine: str = "auto"
    kernel: str | None = None
    jail: str | None = None
    home: str | None = None

    @property
    def runtime_options(self) -> RuntimeOptions:
        """Those of `boxlite.open_runtime`."""
        return RuntimeOptions(home=self.home, engine=self.engine, kernel=self.kernel, jail=self.jail)

    def box_options(self) -> CreateOptions:
        """The options of the box; those that are not given keep their defaults."""
        given = {name: getattr(self, name) for name in CreateOptions.__annotations__}
        return cast(CreateOptions, {name: value for name, value in given.items() if value is not None})


@attrs.frozen(kw_only=True)
class RunRequest(BoxRequest):
    """A command in a box of its own: `boxlite run`."""

    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    workdir: str | None = None
    interactive: bool = False
    tty: bool = False
    timeout: float | None = None

    def argv(self, config: ImageConfig) -> tuple[str, ...]:
        """What to execute; as in docker, an entrypoint of one's own clears the image's Cmd as well.

        Raises `InvalidCommand` where neither the image nor the user says it.
        """
        if self.entrypoint is not None:
            own = (self.entrypoint,) if self.entrypoint else ()
            config = attrs.evolve(config, entrypoint=own, cmd=())
        return argv_for_run(config, self.command)


@attrs.frozen(kw_only=True)
class ExecRequest:
    """A command in a box that is there: `boxlite exec`. None leaves a choice to box and image."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict)
    user: str | None = None
    workdir: str | None = None
    interactive: bool = False
    tty: bool = False
    timeout: float | None = None
    home: str | None = None
