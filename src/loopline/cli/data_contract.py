"""`loopline data contract|check`: what must hold for rows, and whether the rows of a file would keep it."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session, settings_of

if TYPE_CHECKING:
    import polars as pl

    from loopline.quality.contract import Contract
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
        with session(ctx) as s, file_or_version(source):
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
@click.argument("source")
@click.argument("contract", type=_FILE)
@as_json
@click.pass_context
def check(ctx: click.Context, source: str, contract: str, json: bool) -> None:
    """Say how SOURCE, a file or a version, would keep CONTRACT (TOML, JSON or Python), rule by rule; nothing is written.

    Fails where rows would be held back.
    """
    import msgspec
    import polars as pl

    from loopline.data.readers import read_table
    from loopline.errors import NotFound, did_you_mean
    from loopline.loop.files import RuleFiles
    from loopline.quality.contract import Contract
    from loopline.quality.contract_beyond import Beyond
    from loopline.quality.contract_check import check as check_frame
    from loopline.quality.profile import Profile
    from loopline.quality.profile import profile as profile_of

    def rows(ref: str) -> pl.DataFrame:
        with session(ctx) as s:
            return pl.read_ipc_stream(io.BytesIO(s.datasets.read(*names.dataset(s, ref)).read()))

    def column(ref: str, name: str) -> pl.Series:
        found = rows(ref)
        if name not in found.columns:
            raise NotFound(
                f"{ref} has no column {name!r}.", code="column-not-found", hint=did_you_mean(name, found.columns)
            )
        return found[name]

    def profile(ref: str) -> Profile:
        with session(ctx) as s:
            found = Profile.from_json(s.datasets.profile(*names.dataset(s, ref)).read())
        if any(one.personal for one in found.columns.values()):  # of which it has counts alone
            found = profile_of(rows(ref))
        return found.freeze()

    rules = Contract.from_json(msgspec.json.encode(read(contract))).settled(RuleFiles(settings_of(ctx).rules))
    beyond = Beyond(now=time.time_ns() // 1_000_000, column=column, profile=profile)
    with file_or_version(source):
        table = read_table(Path(source)).frame if Path(source).is_file() else rows(source)
    found = check_frame(table, rules, beyond=beyond)
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


@contextlib.contextmanager
def file_or_version(source: str) -> Iterator[None]:
    """Where no dataset is called so, it is said that no file is, either."""
    from loopline.errors import NotFound

    try:
        yield
    except NotFound as e:
        if e.code != "no-dataset":
            raise
        raise NotFound(f"There is neither a file nor a dataset {source!r}.", code=e.code, hint=e.hint) from e


def _example(result: RuleResult) -> str:
    from loopline.quality.contract_check import PERSONAL

    if not result.examples:
        return result.said
    first = result.examples[0]
    shown = (f"{name} {value if value == PERSONAL else repr(value)}" for name, value in first.values.items())
    return f"row {first.row:,}: {', '.join(shown)}"


def read(path: str) -> dict[str, Any]:
    """The contract in a file of TOML or JSON, or the one that a file of Python declares: its own code, run as any script is."""
    import msgspec

    from loopline.errors import Invalid
    from loopline.quality.contract_toml import from_toml

    if path.endswith(".py"):
        made: dict[str, Any] = msgspec.to_builtins(_declared(path))
        return made
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


def _declared(path: str) -> Contract:
    from loopline.errors import Invalid
    from loopline.loop.files import run
    from loopline.quality.contract import Contract

    found = {name: value for name, value in vars(run(Path(path))).items() if isinstance(value, Contract)}
    if "contract" not in found and len({id(value) for value in found.values()}) != 1:
        what = f"several contracts ({', '.join(found)})" if found else "no contract"
        raise Invalid(
            f"{path} declares {what}.",
            code="no-contract-declared",
            hint="It should say: contract = ll.contract(...).",
        )
    return found["contract"] if "contract" in found else next(iter(found.values()))


COMMANDS = (contract, check)
