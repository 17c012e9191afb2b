"""Every command and subcommand explains itself, and a wrong word is answered with the right one."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from loopline.cli import COMMANDS, cli, in_front


def commands() -> Iterator[list[str]]:
    for name in COMMANDS:
        yield [name]
        command = cli.get_command(click.Context(cli), name)
        if isinstance(command, click.Group):
            for sub in command.commands:
                yield [name, sub]


@pytest.mark.parametrize("line", list(commands()), ids=" ".join)
def test_help(line: list[str]) -> None:
    ended = CliRunner().invoke(cli, [*line, "--help"])
    assert ended.exit_code == 0
    assert ended.output.startswith(f"Usage: {cli.name} {' '.join(line)}")
    _, sentence, *_ = ended.output.split("\n\n")
    assert len(sentence.strip()) > 10, "a sentence on what it does"


def test_every_reading_subcommand_gives_json() -> None:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        if not isinstance(command, click.Group):
            continue
        for sub, one in command.commands.items():
            writes_a_file = {"card", "document", "report", "plots", "prove", "export"}
            if isinstance(
                one, click.Group
            ):  # `runs export` writes files, `runs import` is told in tests/cli/test_exchange.py
                continue
            options = {option for param in one.params for option in param.opts}
            assert "--json" in options or sub in writes_a_file, (name, sub)


def test_the_first_page_names_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    for name, (_, _, text) in COMMANDS.items():
        assert f"  {name} " in shown
        assert text in " ".join(shown.split())


@pytest.mark.parametrize(
    ("line", "meant"),
    [(["statuss"], "'status'"), (["dat"], "'data'"), (["data", "lss"], "'ls'"), (["ledger", "verfy"], "'verify'")],
)
def test_a_wrong_word_is_answered_with_the_right_one(line: list[str], meant: str) -> None:
    ended = CliRunner().invoke(cli, line)
    assert ended.exit_code == 2
    assert f"Did you mean {meant}?" in ended.output


def test_a_word_like_none_is_answered_with_all() -> None:
    ended = CliRunner().invoke(cli, ["labels", "xyzzy"])
    assert ended.exit_code == 2
    assert "There are: add." in ended.output


def test_common_options_stand_anywhere() -> None:
    assert in_front(["data", "ls", "--workspace", "w", "--json"]) == ["--workspace", "w", "data", "ls", "--json"]
    assert in_front(["data", "ls", "--project=p"]) == ["--project=p", "data", "ls"]
    assert in_front(["data", "--", "--project", "p"]) == ["data", "--", "--project", "p"]
    assert in_front(["data", "ls", "--workspace"]) == ["--workspace", "data", "ls"]
