"""`loopline data contract|check`: what must hold for rows, and whether the rows of a file would keep it."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session, settings_of

if TYPE_CHECKING:
    import polars as pl

    from loopline.quality.contract_check import RuleResult
    from loopline.quality.profile import Profile

_FILE = click.Path(exists=True, dir_okay=False)


@click.command()
@click.argument("source")
@click.option("--suggest", is_flag=True, help="Draft one that SOURCE, a version or a file, keeps: a beginning to edit.")
@click.option("--label", metavar="COLUMN", help="For a draft: what is to be predicted.")
@click.option("--time", metavar="COLUMN", help="For a draft: what orders the rows.")
@click.option("--group", metavar="COLUMN", help="For a draft: what rows of one thing share.")
@click.option("--python", is_flag=True, help="Print Python source instead of TOML.")
@as_json
@click.pass_context
def contract(
    ctx: click.Context,
    source: str,
    suggest: bool,
    label: str | None,
    time: str | None,
    group: str | None,
    python: bool,
    json: bool,
) -> None:
    """The contract that a version was checked against, or a draft of one, as TOML."""
    import msgspec

    from loopline.quality.contract import Contract, spell
    from loopline.quality.contract_toml import to_toml

    if suggest and Path(source).is_file():
        from loopline.data.readers import read_table
        from loopline.quality.contract_suggest import suggest as draft

        found = draft(read_table(Path(source)).frame, label=label, time=time, group=group)
    else:
        with session(ctx) as s:
            named = names.dataset(s, source)
            given = (
                s.datasets.suggest(*named, label=label, time=time, group=group)
                if suggest
                else s.datasets.contract(*named)
            )
        found = Contract.from_json(msgspec.json.encode(given))
    if json:
        click.echo(found.to_json().decode())
        return
    click.echo(spell(found) if python else to_toml(found).rstrip())


@click.command()
@click.argument("file", type=_FILE)
@click.argument("contract", type=_FILE)
@as_json
@click.pass_context
def check(ctx: click.Context, file: str, contract: str, json: bool) -> None:
    """Say how FILE would keep CONTRACT (TOML or JSON), rule by rule; nothing is written. Fails where rows would be held back."""
    import msgspec
    import polars as pl

    from loopline.data.readers import read_table
    from loopline.loop.files import RuleFiles
    from loopline.quality.contract import Contract
    from loopline.quality.contract_beyond import Beyond
    from loopline.quality.contract_check import check as check_frame
    from loopline.quality.profile import Profile

    def column(ref: str, name: str) -> pl.Series:
        with session(ctx) as s:
            found = pl.read_ipc_stream(io.BytesIO(s.datasets.read(*names.dataset(s, ref)).read()))
        return found.get_column(name)

    def profile(ref: str) -> Profile:
        with session(ctx) as s:
            return Profile.from_json(s.datasets.profile(*names.dataset(s, ref)).read()).freeze()

    rules = Contract.from_json(msgspec.json.encode(read(contract))).settled(RuleFiles(settings_of(ctx).rules))
    beyond = Beyond(now=time.time_ns() // 1_000_000, column=column, profile=profile)
    found = check_frame(read_table(Path(file)).frame, rules, beyond=beyond)
    if json:
        show.print_json(found.to_dict())
    else:
        show.table(
            ["rule", "if broken", "rows", "for example"],
            [(r.name, r.severity, r.broken if r.examples or not r.broken else "", _example(r)) for r in found.rules],
            empty="The contract has no rules.",
        )
        click.echo(f"{found.quarantined:,} of {found.rows:,} rows would be held back.")
    if found.outcome in ("stop", "quarantine"):
        ctx.exit(1)


def _example(result: RuleResult) -> str:
    from loopline.quality.contract_check import PERSONAL

    if not result.examples:
        return result.said
    first = result.examples[0]
    shown = (f"{name} {value if value == PERSONAL else repr(value)}" for name, value in first.values.items())
    return f"row {first.row:,}: {', '.join(shown)}"


def read(path: str) -> dict[str, Any]:
    """The contract in a file of TOML or JSON."""
    import msgspec

    from loopline.errors import Invalid
    from loopline.quality.contract_toml import from_toml

    with open(path, "rb") as file:
        content = file.read()
    if path.endswith(".toml"):
        try:
            found: dict[str, Any] = msgspec.to_builtins(from_toml(content.decode()))
        except UnicodeDecodeError as e:
            raise Invalid(f"{path} is no contract: it is not UTF-8.", code="contract-toml") from e
        return found
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as e:
        raise Invalid(
            f"{path} is no contract: {e}.",
            code="contract-json",
            hint="Draft one: loopline data contract FILE --suggest > contract.toml",
        ) from e


COMMANDS = (contract, check)
