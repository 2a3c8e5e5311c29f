"""`boxlite completion`: what a shell needs to complete commands, options, and the names of boxes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> int:
    """Print the completion script for a shell.

    \b
      eval "$(boxlite completion bash)"              in ~/.bashrc
      eval "$(boxlite completion zsh)"               in ~/.zshrc
      boxlite completion fish | source               in ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    click.echo(script(ctx.find_root().command, {}, "boxlite", "_BOXLITE_COMPLETE").source())
    return 0
