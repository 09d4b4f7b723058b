"""`completion`: the script by which a shell completes the words of this command."""

import click
from click.shell_completion import get_completion_class

from outlast.cli.messages import print_result

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print a script for the completion of a shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print a script by which a shell completes commands, options, and the names of processes.

    \b
    bash: eval "$(outlast completion bash)"                    in ~/.bashrc
    zsh:  eval "$(outlast completion zsh)"                     in ~/.zshrc, behind compinit
    fish: outlast completion fish > ~/.config/fish/completions/outlast.fish
    """  # noqa: D301 - the escape sequence tells click not to wrap the lines
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click has these three
    print_result(kind(context.find_root().command, {}, "outlast", "_OUTLAST_COMPLETE").source().rstrip("\n"))
