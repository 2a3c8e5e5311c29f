"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from boxlite.cli.names import complete_images, complete_names, complete_sources
from boxlite.cli.parameters import Duration, SizeInMib, VolumeText

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

home_option = click.option(
    "--home", metavar="DIR", help="Where boxes and images are kept.  [default: $BOXLITE_HOME, else ~/.boxlite]"
)
jail_option = click.option(
    "--jail",
    metavar="PRESET[,-MEASURE]...",
    help="What confines the machine on this host: standard, maximum or development, as in maximum,-cgroup.  "
    "[default: $BOXLITE_JAIL, else standard]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
name_argument = click.argument("name", shell_complete=complete_names)
name_arguments = click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_names)
image_arguments = click.argument("images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=complete_images)
image_argument = click.argument("image", shell_complete=complete_sources)
pull_option = click.option(
    "--pull",
    type=click.Choice(["always", "missing", "never"]),
    default="missing",
    show_default=True,
    help="When the image comes from its registry.",
)
any_name_arguments = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_names)
command_argument = click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [COMMAND]...")

COMMAND_LAST = {"allow_interspersed_args": False}
"""Context settings of a command whose options end where the command to run begins."""


def engine_options(command: F) -> F:
    """`--engine`, `--kernel` and `--jail`: what runs the machines, and what confines them."""
    return _apply(
        command,
        click.option("--engine", default="auto", show_default=True, help="auto, krun or qemu."),
        click.option("--kernel", metavar="FILE", help="An ELF kernel to boot in place of libkrunfw's."),
        jail_option,
    )


def box_options(command: F) -> F:
    """What a new box is made with."""
    return _apply(
        command,
        click.option("--name", help="Name of the box, also its host name."),
        click.option("--cpus", type=int, help="Virtual CPUs.  [default: 1]"),
        click.option("-m", "--memory", "memory_mib", type=SizeInMib(), help="Memory, such as 512m.  [default: 256m]"),
        click.option("--disk", "disk_mib", type=SizeInMib(), help="Most that the box may write.  [default: 4g]"),
        click.option(
            "-v",
            "--volume",
            "volumes",
            multiple=True,
            type=VolumeText(),
            metavar="SOURCE:TARGET[:ro]",
            help="Let the box see a directory or file of this host.",
        ),
        click.option("--boot-timeout", type=Duration(), metavar="SECONDS", default=120, show_default=True),
    )


def environment_options(command: F) -> F:
    """Variables and user."""
    return _apply(
        command,
        click.option(
            "-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without value, to your own."
        ),
        click.option("--env-file", multiple=True, type=_FILE, help="Read variables."),
        click.option("-u", "--user", metavar="USER[:GROUP]", help="User in the box: a name or uid."),
    )


def command_options(command: F) -> F:
    """How a command is run, and what of this process's streams it gets."""
    return _apply(
        command,
        click.option(
            "-i", "--interactive", is_flag=True, help="Forward stdin. A pipe or file is forwarded without it."
        ),
        click.option("-t", "--tty", is_flag=True, help="Give the command a terminal; -it for a shell."),
        click.option("-w", "--workdir", metavar="DIR", help="Working directory in the box."),
        click.option("--timeout", type=Duration(), metavar="SECONDS", help="Kill the command after this time."),
    )


def without_dashes(command: tuple[str, ...]) -> tuple[str, ...]:
    """One "--" may stand before the command; those after it are the command's own."""
    return command[1:] if command[:1] == ("--",) else command


def _apply(command: F, *options: Callable[[F], F]) -> F:
    # As decorators stand: the last one is applied first, so that help shows them in this order.
    for option in reversed(options):
        command = option(command)
    return command
