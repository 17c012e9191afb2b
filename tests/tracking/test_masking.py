"""What is taken for a secret by its name or form, and what is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.tracking.masking import masked, secret_file

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["--token", "q8"], ["--token", "***"]),
        (["--api-key=q8"], ["--api-key=***"]),
        (["--apiKey", "q8"], ["--apiKey", "***"]),
        (["--password", "q8", "data.csv"], ["--password", "***", "data.csv"]),
        (["--password", "--q8"], ["--password", "***"]),
        (["--use-auth", "--password", "q8"], ["--use-auth", "***", "***"]),
        (["--pgpassword=q8=="], ["--pgpassword=***"]),
        (["--pwd=q8"], ["--pwd=***"]),
        (["--access-key", "q8"], ["--access-key", "***"]),
        (["--key", "q8"], ["--key", "***"]),
        (["-p", "q8"], ["-p", "***"]),
        (["password=q8 q8"], ["password=***"]),
        (["API_KEY=sk-123"], ["API_KEY=***"]),
        (["+db.password=q8", "db/password=q8"], ["+db.password=***", "db/password=***"]),
        (["--env=API_KEY=q8"], ["--env=API_KEY=***"]),
        (["host=h password=q8 port=5432"], ["host=h password=*** port=5432"]),
        (['{"db": {"password": "q 8", "port": 1}}'], ['{"db": {"password": ***, "port": 1}}']),
        (["-H", "Authorization: Token q8"], ["-H", "Authorization: ***"]),
        (["http://u:q8@host/x"], ["http://u:***@host/x"]),
        (["--db", "postgresql://u:q/@8@h/db"], ["--db", "postgresql://u:***@h/db"]),
        (["--db=postgresql://u:q8@h/db"], ["--db=postgresql://u:***@h/db"]),
        (["https://q8q8q8@host/x?token=q8&rows=3"], ["https://***@host/x?token=***&rows=3"]),
        (["ghp_" + "a1" * 18], ["***"]),
        (["--hub", "sk-proj-" + "a1" * 18], ["--hub", "***"]),
        (["AKIAIOSFODNN7EXAMPLE", "ll_" + "Ab3-" * 10, JWT], ["***", "***", "***"]),
        (["use " + JWT + " now"], ["use *** now"]),
    ],
)
def test_secrets_of_a_command_are_masked(argv: list[str], shown: list[str]) -> None:
    assert masked(argv) == shown


def test_what_is_no_secret_is_shown() -> None:
    shown = [
        *("train.py", "--rate=0.1", "--tokenizer", "bert", "--max-tokens", "512", "--keys", "3", "--author", "Ann"),
        *("-p", "8080", "-p", "0.5", "tokens=1e4", "model.monkey=x", "--use-auth=false", "--passive", "compass"),
        *("ssh://git@host/x", "http://auth.host:8080/x", "git@host:x", "s3://bucket/a=1/b", "risk-" + "a1" * 12),
        *("sk-learn", "--lr", "-1e-3", "", "--", "a=b=c", "0f" * 20),
    ]
    assert masked(shown) == shown


@given(
    st.lists(st.text() | st.sampled_from(["--token", "-p", "--key=x", "password=", "http://u:p@h", '"token": "', "="]))
)
def test_as_many_arguments_are_told_as_there_were(argv: list[str]) -> None:
    found = masked(argv)
    assert len(found) == len(argv)
    assert masked(found) == found, "what is masked stays so"


def test_a_long_argument_takes_no_time() -> None:
    began = time.process_time()
    for text in (
        "a" * 100_000,
        "-" * 100_000,
        "a://" * 25_000,
        "a=" * 50_000,
        "-eyJ" * 25_000,
        "-sk-" * 25_000,
        "a " * 50_000,
        "key=1 " * 20_000,
    ):
        masked([text, "--x", text + "@"])
    assert time.process_time() - began < 10


SECRET = """
.env .env.local .envrc .env~ prod.env server.pem server.pem.bak tls.KEY id_rsa id_rsa.old id_work a.keystore a.jks
.netrc _netrc .pgpass .htpasswd .git-credentials credentials credentials.json aws_credentials.csv gcp-credentials-2.json
secret secrets.toml secrets.py client_secret_1.json token.json tokens.json gmail_token.json token.txt kubeconfig
service-account.json service_account_prod.json api_key.txt passwords.txt
"""
HARMLESS = """
tokenizer.json tokenizer_config.json special_tokens_map.json tokens.txt id_mapping.py id_0017 id_rsa.pub environment.py
token.py keys.json keyboard.csv secretary.txt passwords_model.py roc.png service.json
"""


def test_names_of_files_that_hold_secrets() -> None:
    assert [name for name in [*SECRET.split(), "a\n.env"] if not secret_file(name)] == []
    assert [name for name in HARMLESS.split() if secret_file(name)] == []
