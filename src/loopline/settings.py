"""Settings: what a platform is told from outside, with where each value came from.

A value is taken from the call, else from the environment (`LOOPLINE_...`), else from `settings.toml` in the workspace, else
from the defaults below. `loopline doctor` prints the result with the origins.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from loopline.errors import Invalid, did_you_mean

WORKSPACE = ".loopline"
PORT = 8400


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of one platform; `origins` maps a name to "call", "environment", "settings.toml" or "default"."""

    workspace: Path
    database: str = ""
    """URL of the database; empty: SQLite in the workspace."""
    blobs: str = ""
    """URL of the blob store; empty: a folder in the workspace."""
    checkpoints: str = ""
    """Folder for the copy of each checkpoint; empty: outside the workspace, in the user's state folder."""
    project: str = "default"
    host: str = "127.0.0.1"
    port: int = PORT
    allowed_hosts: str = ""
    """Further Host header names that the server answers to, separated by commas."""
    tls_cert: str = ""
    """Certificate (PEM file) that the server shows; empty: no TLS."""
    tls_key: str = ""
    """The certificate's key (PEM file)."""
    body_limit: int = 1 << 30
    """Largest body that the control plane takes, in bytes."""
    rules: str = ""
    """Files of Python whose functions contracts may name, separated by commas; they are run when one is first asked for."""
    threads: int = 0
    """Threads for heavy work; 0: one a core."""
    executor: str = ""
    """Where large work is done in pieces: empty: in processes of this machine; `ray`, `ray:ADDRESS`: on a Ray cluster."""
    model_timeout: float = 30.0
    """Seconds that a model in a child process may take for a batch; then it is ended and started again."""
    model_memory: int = 2 << 30
    """Bytes of memory that a model's child process may take; 0: no bound."""
    model_start: float = 120.0
    """Seconds that a model's child process may compute until its model is loaded; while others compute, they do not pass."""
    journal_quota: int = 2 << 30
    """Bytes that what is logged may have on this machine until a server has taken it."""
    log_sync: Literal["off", "interval", "always"] = "off"
    """When the prediction log is brought to the disk itself: left to the system, once a second, or before each answer."""
    log_full: Literal["answer", "refuse"] = "answer"
    """What becomes of predictions that the log cannot take (a full disk): answered and counted, or refused with 503."""
    log_hours: float = 24.0
    """Hours that segments of the prediction log stay after they are on record."""
    trace_to: str = ""
    """Where traces go, by OTLP over HTTP (`http://127.0.0.1:4318`); empty: nothing is traced."""
    trace_share: float = 0.01
    """Which part of the predictions is traced, besides those whose callers trace them."""
    test_mode: bool = False
    """Whether `POST /__reset__` makes projects for test suites; never where anything is kept that matters."""
    origins: dict[str, str] = {}

    @property
    def database_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.database or f"sqlite:///{self.workspace / 'loopline.db'}"

    @property
    def checkpoint_folder(self) -> Path:
        """Where each checkpoint is copied to, the default filled in (one folder a workspace)."""
        if self.checkpoints:
            return Path(self.checkpoints).expanduser()
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return state / "loopline" / "checkpoints"


def load(**given: Any) -> Settings:
    """The settings in force. `given` are the call's own (None: not given). Raises `Invalid` on an unknown or ill-typed one."""
    workspace = given.get("workspace") or os.environ.get("LOOPLINE_WORKSPACE") or WORKSPACE
    path = Path(workspace).expanduser().absolute()
    names = set(Settings.__struct_fields__) - {"origins", "workspace"}
    found: dict[str, Any] = {}
    origins = {
        "workspace": "call"
        if given.get("workspace")
        else "environment"
        if "LOOPLINE_WORKSPACE" in os.environ
        else "default"
    }
    for name, value in _file(path / "settings.toml", names).items():
        found[name], origins[name] = value, "settings.toml"
    for name in names:
        if value := os.environ.get(f"LOOPLINE_{name.upper()}"):
            found[name], origins[name] = value, "environment"
    for name, value in given.items():
        if name != "workspace" and value is not None:
            found[name], origins[name] = value, "call"
    try:
        settings = msgspec.convert({**found, "workspace": path, "origins": origins}, Settings, strict=False)
    except msgspec.ValidationError as e:
        raise Invalid(
            f"A setting cannot be read: {e}.", code="bad-setting", hint="`loopline doctor` shows where each comes from."
        ) from e
    if not 0 <= settings.port <= 65535:  # the system would take its last 16 bits, which is another port
        raise Invalid(
            f"{settings.port} is no port.", code="bad-setting", hint="Give a port of 0 to 65535 (0: any that is free)."
        )
    return settings


def make_workspace(folder: Path) -> None:
    """The workspace's folder, for its owner alone, and nothing that a version control is to know of."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "loopline.db").exists():  # whose workspace it is may have opened it to others since
        folder.chmod(0o700)
    ignore = folder / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")


def _file(path: Path, names: set[str]) -> dict[str, Any]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    import tomllib  # where there is a file: a script that is tracked has none, as a rule

    try:
        found = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise Invalid(f"{path} is not TOML: {e}.", code="bad-setting", hint="Mend the file or remove it.") from e
    for name in found:
        if name not in names:
            raise Invalid(
                f"{path} has the unknown setting {name!r}.", code="bad-setting", hint=did_you_mean(name, names)
            )
    return found
