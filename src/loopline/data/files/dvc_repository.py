"""The repository of DVC that a file lies in, and where it keeps what its files name: its cache, and its remote in a folder."""

from __future__ import annotations

import configparser
from pathlib import Path

from loopline.errors import Invalid, NotFound


def cache_of(file: Path) -> Path:
    """The folder of the cache that `dvc checkout` reads and `dvc push` sends from. Raises `NotFound` outside of a repository."""
    home, config = _repository(file)
    return home / _said(config, "cache", "dir", "cache")


def places_of(file: Path) -> tuple[Path, ...]:
    """Where an object may be: the cache, then the default remote, where that is a folder. Raises `NotFound` as `cache_of`."""
    home, config = _repository(file)
    remote = _said(config, "core", "remote", "")
    url = _said(config, f"'remote \"{remote}\"'", "url", "") if remote else ""
    return (cache_of(file), *([home / url] if url and "://" not in url else []))


def _repository(file: Path) -> tuple[Path, configparser.ConfigParser]:
    """The folder `.dvc` above a file, and what its settings say; paths in them start from it."""
    for folder in file.absolute().parents:
        home = folder / ".dvc"
        if home.is_dir():
            config = configparser.ConfigParser(interpolation=None, strict=False)
            try:
                config.read([home / "config", home / "config.local"], encoding="utf-8")
            except (configparser.Error, UnicodeDecodeError) as e:
                raise Invalid(
                    f"The settings of {home} cannot be read: {e}.", code="bad-dvc-file", hint="Name a --remote."
                ) from e
            return home, config
    raise NotFound(
        f"{file} lies in no repository of DVC (no folder above it has a .dvc).",
        code="no-dvc-repository",
        hint="Name the folder that `dvc push` fills and `dvc pull` reads: --remote FOLDER.",
    )


def _said(config: configparser.ConfigParser, section: str, name: str, otherwise: str) -> str:
    return config.get(section, name, fallback=otherwise)
