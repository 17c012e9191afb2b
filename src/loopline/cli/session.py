"""The session behind a command: a server's where one is given, else the workspace's own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from loopline.catalog import Session
    from loopline.settings import Settings

as_json = click.option("--json", "json", is_flag=True, help="Print JSON for programs.")


def listening(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that serves: where it listens, and with which certificate."""
    port = click.IntRange(0, 65535)
    for option in (  # the last one is shown first
        click.option("--tls-key", metavar="FILE", help="The certificate's key."),
        click.option(
            "--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate (PEM); see loopline certificate."
        ),
        click.option("--grpc-port", type=port, help="Answer gRPC there, too (0: any free port); needs the extra grpc."),
        click.option("--port", type=int, help="Port (default: 8400; 0: any free one)."),
        click.option("--host", help="Address to listen on (default: 127.0.0.1)."),
    ):
        command = option(command)
    return command


def settings_of(ctx: click.Context, **given: Any) -> Settings:
    """The settings in force for this command."""
    from loopline.settings import load

    return load(workspace=ctx.obj["workspace"], project=ctx.obj["project"], **given)


def is_there(settings: Settings) -> bool:
    """Whether there is a workspace to open (a database elsewhere is taken for one)."""
    return bool(settings.database) or (settings.workspace / "loopline.db").exists()


@contextlib.contextmanager
def session(ctx: click.Context, *, creates: bool = False) -> Iterator[Session]:
    """The verbs, for the length of a command.

    Without a server they are those of the workspace, in this process. Only a command that `creates` makes a workspace where
    there is none; any other raises `NotFound`.
    """
    settings = settings_of(ctx)
    if ctx.obj["server"]:
        from loopline.client import connect

        opened = connect(ctx.obj["server"], token=ctx.obj["token"], project=settings.project)
    else:
        if not (creates or is_there(settings)):
            from loopline.errors import NotFound

            raise NotFound(
                f"There is no workspace at {settings.workspace}.",
                code="no-workspace",
                hint="`loopline demo` makes one to look at, `loopline init` begins one on a table of yours; "
                "or name another one: loopline --workspace DIR ...",
            )
        from loopline.app import Platform

        opened = Platform.open(settings).session()
    with contextlib.closing(opened):
        yield opened


class Commands(click.Group):
    """A group of subcommands that says which one was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from loopline.errors import did_you_mean

            raise click.UsageError(
                f"`{ctx.command_path}` has no command {args[0]!r}. {did_you_mean(args[0], self.commands)}", ctx
            )
        return super().resolve_command(ctx, args)


def group(name: str, text: str) -> Callable[[Callable[..., Any]], click.Group]:
    """A group of commands whose help names what it is about."""
    return click.group(name=name, cls=Commands, help=text, context_settings={"help_option_names": ["-h", "--help"]})
