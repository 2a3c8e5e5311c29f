"""What one call of `boxlite run` asks for. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from boxlite.images.config import ImageConfig, argv_for_run
from boxlite.runtime.runtime import CreateOptions


@attrs.frozen(kw_only=True)
class RunRequest:
    """The options of `boxlite run`; None leaves a choice to the image or to `BoxOptions`. Times are in seconds."""

    image: str
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    env: Mapping[str, str] = attrs.field(factory=dict)
    workdir: str | None = None
    user: str | None = None
    interactive: bool = False
    tty: bool = False
    timeout: float | None = None
    name: str | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    disk_mib: int | None = None
    boot_timeout: float | None = None
    engine: str = "auto"
    kernel: str | None = None
    home: str | None = None

    def box_options(self) -> CreateOptions:
        """The options of the box; those that are not given keep their defaults."""
        options = CreateOptions(env=self.env, user=self.user, boot_timeout=self.boot_timeout)
        if self.name is not None:
            options["name"] = self.name
        if self.cpus is not None:
            options["cpus"] = self.cpus
        if self.memory_mib is not None:
            options["memory_mib"] = self.memory_mib
        if self.disk_mib is not None:
            options["disk_mib"] = self.disk_mib
        return options

    def argv(self, config: ImageConfig) -> tuple[str, ...]:
        """What to execute; as in docker, an entrypoint of one's own clears the image's Cmd as well.

        Raises `InvalidCommand` where neither the image nor the user says it.
        """
        if self.entrypoint is not None:
            own = (self.entrypoint,) if self.entrypoint else ()
            config = attrs.evolve(config, entrypoint=own, cmd=())
        return argv_for_run(config, self.command)
