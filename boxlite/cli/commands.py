"""The commands of `boxlite`: what they are called, where they are, and the status with which a call ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from boxlite.cli.failure import BROKEN_PIPE, FAILURE, report
from boxlite.cli.loading import ended_by_interrupts
from boxlite.cli.standard import STDERR, STDOUT, open_missing

_MODULES: Mapping[str, Mapping[str, str]] = {
    "run": {"run": "Run COMMAND in a new virtual machine, and remove it afterwards."},
    "create": {"create": "Make a box out of IMAGE, and print its name."},
    "lifecycle": {
        "start": "Start boxes; returns when each takes commands.",
        "stop": "Stop boxes; their disks are kept, and they can be started again.",
        "restart": "Stop boxes and start them again; one that does not run is started.",
        "pause": "Make boxes' processors stand still; their memory is kept.",
        "unpause": "Let paused boxes go on.",
        "rm": "Remove boxes with all that they wrote.",
    },
    "execute": {
        "exec": "Run COMMAND in the box NAME.",
        "attach": "Follow the command EXECUTION of the box NAME, from the first output that is kept on.",
    },
    "logs": {"logs": "Print the console of a box's machine: its kernel, its agent, and its engine."},
    "listing": {
        "ls": "List the boxes that run.",
        "ps": "List the boxes that run.",
        "inspect": "Print all that is known of boxes and images, as a JSON array; with --json on one line.",
    },
    "library": {
        "pull": "Bring images in from their registries, and print their names in full.",
        "tag": "Give IMAGE one more name, which is taken from the image that had it.",
        "rmi": "Remove images by their names, or by the first digits of their ids.",
        "prune": "Remove what nobody needs: images without a name, and unfinished downloads.",
    },
    "images": {"images": "List the images that were pulled and loaded."},
    "archives": {
        "save": "Write images to an archive, which Docker, Podman and skopeo read.",
        "load": "Bring images in from an archive of `docker save`, or an OCI image layout.",
    },
    "image": {"image": "Images: what boxes are made from."},
    "stats": {"stats": "Show what boxes use: those named, or all that run."},
    "template": {"template": "Saved machines, from which boxes start in a fraction of a second."},
    "doctor": {"doctor": "Examine this host."},
    "completion": {"completion": "Print the completion script for a shell."},
}
"""The modules of `boxlite.cli` that have commands, with the first sentence of each one's help."""

_FUNCTIONS = {"exec": "execute", "ps": "ls"}
"""The functions of those commands that are called otherwise."""


class LazyCommand(click.Command):
    """Stands for a command in lists; its module is loaded when it is called, or asked for its own help."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._module = module

    def load(self) -> click.Command:
        """The command itself."""
        assert self.name is not None
        with ended_by_interrupts():
            module = import_module(f"boxlite.cli.{self._module}")
        command = getattr(module, _FUNCTIONS.get(self.name, self.name))
        assert isinstance(command, click.Command)
        return command

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Lets the command itself read the arguments; the context that comes of it is the command's own."""
        return self.load().make_context(info_name, args, parent, **extra)


class _Commands(click.Group):
    """A group whose commands may raise any error; click takes care of those of its own kind alone."""

    def invoke(self, ctx: click.Context) -> object:
        """Runs the chosen command and gives its status."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt) as error:
            return report(error, debug=ctx.params["debug"])


@click.group(cls=_Commands, name="boxlite", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="boxlite-trio", prog_name="boxlite")
@click.pass_context
def cli(ctx: click.Context, debug: bool) -> None:
    """Run commands in micro-VMs: each box is a real virtual machine."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        ctx.color = False


for _module, _commands in _MODULES.items():
    for _name, _short_help in _commands.items():
        cli.add_command(LazyCommand(_name, _module, _short_help))


def call() -> int:
    """Does what this process's arguments ask for; the status to end with, which is 125 where boxlite itself failed."""
    open_missing()
    try:
        return _flushed(_status())
    except OSError:
        # stderr takes nothing either, not even what the interpreter flushes at its end: the status is all there is.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)
        return FAILURE


def _status() -> int:
    try:
        status = cli.main(prog_name="boxlite", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return FAILURE
    except (click.Abort, KeyboardInterrupt):
        return 128 + signal.SIGINT
    except OSError as error:
        # Help, or the version, could not be written; nobody asked for more yet.
        return report(error, debug=False)
    assert isinstance(status, int)
    return status


def _flushed(status: int) -> int:
    try:
        # It flushes; and where stdout was closed, so that sys.stdout is None, it does nothing.
        click.echo(nl=False)
    except OSError as error:
        # The interpreter flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        return status or report(error, debug=False)
    return status
