"""`loopline policy`: what an endpoint refuses, how often it may be asked, and what of its rows is kept."""

from __future__ import annotations

from typing import Any

import click

from loopline.cli import names, show
from loopline.cli.session import as_json, session

_CHOICE = click.Choice(["accept", "refuse"])


@click.command()
@click.argument("endpoint")
@click.option("--unknown-category", type=_CHOICE, help="A level not seen in training.")
@click.option("--out-of-range", type=_CHOICE, help="A number or date outside of what training saw.")
@click.option("--rate", type=float, metavar="N", help="Requests a second of one caller, over all workers; 0: any.")
@click.option("--burst", type=int, metavar="N", help="Requests at once after a pause; 0: a second's worth.")
@click.option("--probes", type=int, metavar="N", help="Different rows of one caller within a day that raise an alert.")
@click.option(
    "--rows-kept", type=float, metavar="SHARE", help="Share of requests whose rows are kept; answers always are."
)
@click.option("--hide", multiple=True, metavar="COLUMN", help="Never kept; repeat. It replaces those hidden before.")
@click.option("--hash", "hashed", multiple=True, metavar="COLUMN", help="Kept as a keyed hash; repeat, as --hide.")
@click.option("--days", type=float, metavar="N", help="Days that answers stay on record; 0: for good.")
@click.option("--reset", is_flag=True, help="Begin from the defaults: everything passes, everything is kept.")
@as_json
@click.pass_context
def policy(
    ctx: click.Context,
    /,
    endpoint: str,
    hide: tuple[str, ...],
    hashed: tuple[str, ...],
    reset: bool,
    json: bool,
    **given: Any,
) -> None:
    """Show or change the policy of ENDPOINT. What is not given stays; what is on record already stays, too."""
    import msgspec

    from loopline.serving.records import Policy

    changes = {name: value for name, value in given.items() if value is not None}
    changes |= {name: value for name, value in (("hidden", hide), ("hashed", hashed)) if value}
    with session(ctx) as s:
        name = names.one(s, endpoint, "endpoint")
        found = s.endpoints.show(name)
        if changes or reset:
            before = Policy() if reset else found.policy
            found = s.endpoints.set_policy(name, msgspec.structs.replace(before, **changes))
    if json:
        show.print_json(found.policy)
        return
    show.title(f"{found.ref}: policy")
    show.facts(_said(found.policy))


def _said(policy: Any) -> list[tuple[str, str]]:
    burst = policy.burst or "a second's worth"
    return [
        ("unknown category", policy.unknown_category),
        ("out of range", policy.out_of_range),
        ("rate", f"{policy.rate:g} a second, {burst} at once" if policy.rate else "any"),
        ("alert on probing", f"{policy.probes:,} different rows of one caller in a day" if policy.probes else "none"),
        ("rows kept", f"{policy.rows_kept:.4g} of them"),
        ("hidden", ", ".join(policy.hidden) or "none"),
        ("hashed", ", ".join(policy.hashed) or "none"),
        ("on record", f"{policy.days:g} days" if policy.days else "for good"),
    ]
