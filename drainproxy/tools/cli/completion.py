"""`drainproxy completion`: how does a shell learn our commands and options? A script for it to read."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM, VARIABLE = "drainproxy", "_DRAINPROXY_COMPLETE"


@click.command(
    "completion",
    help="""Print the script that completes commands and options in a shell.

    \b
      bash   drainproxy completion bash > ~/.local/share/bash-completion/completions/drainproxy
      zsh    drainproxy completion zsh > "${fpath[1]}/_drainproxy"
      fish   drainproxy completion fish > ~/.config/fish/completions/drainproxy.fish

    Exit code: 0 on success; 2 for an unknown shell.
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, /, *, shell: str) -> None:
    found = get_completion_class(shell)
    assert found is not None, f"click completes {shell}"
    script = found(ctx.find_root().command, {}, PROGRAM, VARIABLE)
    # Not source(): it starts the shell to look at its version, and this may not be the machine that the script is for.
    click.echo(script.source_template % script.source_vars())
