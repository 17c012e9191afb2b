"""What holds a secret, as far as names and forms say so: files that are kept nowhere, arguments that are masked.

It is a guess that rather hides too much: what was hidden can be told again, what was shown cannot be taken back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

MASK = "***"

_FILE = re.compile(
    r"""(?:
      \.env(\..*)?|\.envrc|.*\.(env|pem|key|p12|pfx|pkcs12|jks|keystore|kdbx|ppk|token)
    | id_(?!\d)[^./]*|id_(rsa|dsa|ecdsa|ed25519)(?!.*\.pub$).*
    | [._](netrc|pgpass|npmrc|pypirc|htpasswd|my\.cnf)|htpasswd|kubeconfig
    | .*credentials.*|(credential|secrets?)(\..*)?|client[-_]?secrets?.*|service[-_]?accounts?.*\.json
    | (.*[-_.])?token\.(json|txt|ya?ml|toml|ini|cfg|csv|pickle)|tokens\.json
    | (.*[-_.])?(api[-_]?keys?|passwords?|passwd)(\.(json|txt|ya?ml|toml|ini|cfg|csv))?
    )(~|\.(bak|old|orig|save|copy|swp))*""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SURE = re.compile(r".*passw.*|passphrase|pwd|pw|.*secrets?|.*token|.*credentials?|creds?|jwt|bearer|cookies?")
_SURE_JOINED = re.compile(r"(api|access|private|secret|signing|account|auth)key")
_LIKELY = re.compile(r"keys?|tokens|pass|o?auth|authorization|authentication")
_PLAIN = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|true|false|yes|no|on|off|none|null|", re.IGNORECASE)

_URL = re.compile(r"[A-Za-z][\w+.-]{0,20}://[^/:@]*:")
_URL_TOKEN = re.compile(r"(https?://)[^\s/?#@:]+@")
_FORMS = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      sk-(?=[\w-]{0,60}\d)[\w-]{16,} | gh[opsur]_\w{16,} | github_pat_\w{16,} | glpat-[\w-]{16,} | hf_[A-Za-z0-9]{16,}
    | (AKIA|ASIA)[A-Z0-9]{12,} | AIza[\w-]{30,} | xox[a-z]-[\w-]{10,} | ll_[\w-]{16,}
    | eyJ[\w-]{6,2000}\.[\w-]+(\.[\w-]*)? | (?<=Bearer\ )\S+
    | -----BEGIN\ [A-Z ]{0,40}PRIVATE\ KEY-----.*
    )""",
    re.VERBOSE | re.DOTALL,
)
_NAMED = re.compile(r"(?<![\w.-])([\w.-]++)(\s*=\s*|[\"']\s*[=:]\s*|:\s+)")
_QUOTED = re.compile(r"\"[^\"]*\"?|'[^']*'?")
_TO_SPACE = re.compile(r"[^\s&;\"']+")
_TO_END = re.compile(r"[^\n\"']+")


def secret_file(name: str) -> bool:
    """Whether the name of a file or folder, without those above it, says that it holds secrets."""
    return _FILE.fullmatch(name) is not None


def masked(argv: Sequence[str]) -> list[str]:
    """The arguments of a command with `***` for what sounds like a secret; as many as there were.

    That is the value of a name with a word such as password, secret, token or api key (`--token x`, `--db.password=x`,
    `API_KEY=x`, also within a longer argument); of one with a word such as key, tokens or auth, and of `-p`, where it is no
    number; the password of a URL; and what has the form of a token (`sk-`, `ghp_`, `AKIA`, `ll_`, JWT, ...).
    """
    kept: list[str] = []
    before = ""
    for argument in argv:
        name, sign, value = argument.partition("=")
        if before and _secret(before, argument):
            kept.append(MASK)
        elif sign and not re.search(r"[\s\"'{:?&;]", name) and _secret(name, value):
            kept.append(f"{name}={MASK}")
        else:
            kept.append(_within(argument))
        before = argument if argument.startswith("-") and not sign else ""
    return kept


def _secret(name: str, value: str) -> bool:
    """Whether the value of a name is to be hidden."""
    return _sounds(name) and (_is_sure(name) or not _PLAIN.fullmatch(value))


def _sounds(name: str) -> bool:
    return name == "-p" or _is_sure(name) or any(map(_LIKELY.fullmatch, _words(name)))


def _is_sure(name: str) -> bool:
    words = _words(name)
    return any(map(_SURE.fullmatch, words)) or _SURE_JOINED.search("".join(words)) is not None


def _words(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _within(text: str) -> str:
    """An argument without the secrets that are parts of it, in a time that grows with its length only."""
    text = re.sub(r"\S+", _without_password, text) if "@" in text else text
    text = _URL_TOKEN.sub(rf"\1{MASK}@", text)
    text = _FORMS.sub(MASK, text)
    parts, done = [], 0
    for named in _NAMED.finditer(text):
        if named.start() < done or not _sounds(named[1]):
            continue
        end = _TO_END if named[2][:1] == ":" else _TO_SPACE
        value = _QUOTED.match(text, named.end()) or end.match(text, named.end())
        if value and _secret(named[1], value[0].strip("\"'")):
            parts += [text[done : named.end()], MASK]
            done = value.end()
    return "".join([*parts, text[done:]])


def _without_password(word: re.Match[str]) -> str:
    head, at, tail = word[0].rpartition("@")  # a password may hold "@" and "/" itself
    found = _URL.search(head)
    return f"{head[: found.end()]}{MASK}{at}{tail}" if found else word[0]
