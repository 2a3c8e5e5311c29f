"""The command `boxlite`: its subcommands, and the status with which it ends."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import click

from boxlite.cli.completion import completion
from boxlite.cli.create import create
from boxlite.cli.descriptors import STDOUT, open_missing
from boxlite.cli.doctor import doctor
from boxlite.cli.execute import attach, execute
from boxlite.cli.failure import BROKEN_PIPE, FAILURE, report
from boxlite.cli.lifecycle import pause, restart, rm, start, stop, unpause
from boxlite.cli.listing import inspect, ls
from boxlite.cli.logs import logs
from boxlite.cli.run import run
from boxlite.cli.stats import stats
from boxlite.cli.template import template


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


for command in (
    *(run, create, start, stop, restart, pause, unpause, rm),
    *(execute, attach, logs, ls, inspect, stats),
    *(template, doctor, completion),
):
    cli.add_command(command)
cli.add_command(ls, name="ps")


def main() -> NoReturn:
    """The entry point: ends the process with the command's status, or with 125 where boxlite itself failed."""
    open_missing()
    sys.exit(_flushed(_status()))


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


if __name__ == "__main__":
    main()
