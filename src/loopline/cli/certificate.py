"""`loopline certificate`: a certificate of one's own, for TLS without an authority."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", "names", multiple=True, metavar="NAME", help="Host name or address of the server; repeat.")
def certificate(folder: Path, names: tuple[str, ...]) -> None:
    """Make FOLDER/cert.pem and FOLDER/key.pem, which sign themselves, for localhost and each NAME.

    Clients trust nothing but what they are told: give them cert.pem (SSL_CERT_FILE, curl --cacert).
    """
    from loopline.serving.tls import make_certificate

    made, key = make_certificate(folder, ["localhost", "127.0.0.1", *names])
    click.echo(f"{made} and {key} are made.")
    click.echo(f"  Serve: loopline up --tls-cert {made} --tls-key {key}")
