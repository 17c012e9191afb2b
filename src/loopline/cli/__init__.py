"""The command line: `loopline ...`. Help is a static table; a command's module is imported only when it runs."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from itertools import islice

import click

from loopline import __version__

COMMANDS: dict[str, tuple[str, str, str]] = {
    # name: (where it is from, its module, its line of help)
    "demo": ("Start", "demo", "Show the whole loop on hospital readmissions, in about a minute."),
    "init": ("Start", "loops", "Write the file that declares a loop on your own table."),
    "run": ("Start", "loops", "Run a loop: data, training, gates, registration, rollout."),
    "up": ("Start", "up", "Serve: API, predictions, monitors and the loop, at one address."),
    "certificate": ("Start", "certificate", "Make a certificate for TLS, signed by its own key."),
    "status": ("Start", "status", "One screen: what runs, what is champion, what needs a person."),
    "doctor": ("Start", "doctor", "Look at this machine and workspace, and say what is amiss."),
    "data": ("Work", "data", "Datasets: add, sync, ls, log, show, profile, quarantine, split."),
    "features": ("Work", "features", "Feature views: define, ls, show, join, materialize, get."),
    "runs": ("Work", "runs", "Runs: ls, search, show, history, artifacts, notes, corrections, deletion."),
    "groups": ("Work", "groups", "Groups of runs: ls, show, create, rename, note, tag, delete, restore."),
    "sync": ("Work", "sync", "Send what programs logged while no server answered."),
    "models": ("Work", "models", "Models: ls, show, card, package, push, pull, aliases, approvals, deletion."),
    "pipeline": ("Work", "pipeline", "Runs of pipelines and their steps: ls, show."),
    "evaluations": ("Work", "evaluations", "Evaluations: measure, ls, show, report, plots."),
    "score": ("Work", "score", "Score a dataset version, or a stream, by a model version."),
    "serve": ("Operate", "serve", "Serve models alone: of the registry, or a bundle's folder without any."),
    "deploy": ("Operate", "deploy", "Serve a model version at an endpoint."),
    "threshold": ("Operate", "threshold", "Set from which probability on an endpoint calls a row positive."),
    "policy": ("Operate", "policy", "What an endpoint refuses, and what of its rows is kept."),
    "rollout": ("Operate", "rollout", "Rollouts: ls, show, start, advance, promote, back."),
    "predictions": ("Operate", "predictions", "Predictions: ls, show, export, traffic."),
    "labels": ("Operate", "labels", "Send labels for predictions."),
    "monitor": ("Operate", "monitor", "Drift and quality of what is served: ls, look, drift, quality."),
    "alerts": ("Operate", "alerts", "Alerts: ls, show, acknowledge, silence, close."),
    "ledger": ("Record", "ledger", "The ledger: verify, prove, checkpoint, entries, export."),
    "lineage": ("Record", "lineage", "Where a thing came from, or what came of it."),
    "gc": ("Record", "gc", "Remove runs and versions past their retention, and bytes that nothing refers to."),
    "access": ("Record", "access", "Principals, roles, tokens, projects."),
}  # fmt: skip


ANYWHERE = ("--workspace", "--server", "--token", "--project")
"""Options of the whole command line, each with a value: they may stand behind the command, too."""


class LazyGroup(click.Group):
    """A group whose commands are named in a table and imported when they are used."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, in_front(args))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"loopline.cli.{COMMANDS[cmd_name][1]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from loopline.errors import did_you_mean

            raise click.UsageError(f"There is no command {args[0]!r}. {did_you_mean(args[0], COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section in dict.fromkeys(where for where, _, _ in COMMANDS.values()):
            rows = [(name, text) for name, (where, _, text) in COMMANDS.items() if where == section]
            with formatter.section(section):
                formatter.write_dl(rows)


def in_front(args: list[str]) -> list[str]:
    """The arguments with the options of the whole command line in front; nothing behind `--` is touched."""
    moved: list[str] = []
    left: list[str] = []
    rest = iter(args)
    for argument in rest:
        if argument == "--":
            left += [argument, *rest]
        elif argument in ANYWHERE:
            moved += [argument, *islice(rest, 1)]
        elif argument.startswith(tuple(f"{option}=" for option in ANYWHERE)):
            moved.append(argument)
        else:
            left.append(argument)
    return [*moved, *left]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="loopline")
@click.option("--workspace", metavar="DIR", help="The workspace (else LOOPLINE_WORKSPACE, else ./.loopline).")
@click.option("--server", metavar="URL", envvar="LOOPLINE_SERVER", help="Work on a running server instead.")
@click.option("--token", metavar="TOKEN", envvar="LOOPLINE_TOKEN", help="Token for the server.")
@click.option("--project", metavar="NAME", help="The project (default: default).")
@click.pass_context
def cli(ctx: click.Context, workspace: str | None, server: str | None, token: str | None, project: str | None) -> None:
    """The whole machine-learning lifecycle as one closed loop.

    Try `loopline demo`, then `loopline init NAME --data FILE --label COLUMN` on a table of your own. The options above may
    stand anywhere on the line.
    """
    ctx.obj = {"workspace": workspace, "server": server, "token": token, "project": project}


def main() -> None:
    """Runs the command line; errors are told as sentences, with the way out, and an exit code by their branch."""
    # Threads of OpenMP that spin while they wait take a busy machine's cores from the work; it is read when they start.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        code = cli.main(prog_name="loopline", standalone_mode=False)
    except click.ClickException as e:
        e.show()
        code = e.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        code = 130
    except Exception as e:
        from loopline.cli.problems import report

        code = report(e)
    sys.exit(code if isinstance(code, int) else 0)
