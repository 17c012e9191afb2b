"""Read a bundle's manifest, and refuse a folder whose files are not exactly those that it lists."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import msgspec

from loopline.errors import Invalid, NotFound, Refused
from loopline.hashing import digest_bytes
from loopline.packaging.external import points_outside
from loopline.packaging.records import Manifest, Runtime
from loopline.registry.formats import check_file

MANIFEST = "manifest.json"
MODEL = "model.onnx"
NATIVE = "native"
TRANSFORM = "transform.json"
PARITY = "parity.json"
CLEANING = "cleaning.json"
SIGNATURES = "signatures"  # signatures are of the manifest, so it cannot list them

CODE = "code"
SAVED = f"{NATIVE}/saved_model"
DECLARED = "ensemble.json"

_ALLOWED = frozenset({".onnx", ".json", ".txt", ".ubj", ".skops"})
_WITH_CODE = _ALLOWED | {".py", ".csv", ".npy", ".safetensors"}
_PROGRAMS: dict[Runtime, frozenset[str]] = {
    "code": _WITH_CODE,
    "pytorch": _WITH_CODE | {".pt2", ".pt"},
    "tensorflow": _ALLOWED | {".pb", ".index", ".csv"},
    "ensemble": _WITH_CODE | {".pt2", ".pt", ".pb", ".index"},
}
_SHARD = re.compile(rf"(nodes/[\w.-]+/)*{SAVED}/variables/variables\.data-\d{{5}}-of-\d{{5}}")
_FILES: dict[Runtime, tuple[str, ...]] = {
    "onnx": (MODEL,),
    "native": (f"{NATIVE}/model.json",),
    "lightgbm": (f"{NATIVE}/model.txt",),
    "xgboost": (f"{NATIVE}/model.ubj",),
    "skops": (f"{NATIVE}/model.skops",),
    "pytorch": (f"{CODE}/model.py", f"{NATIVE}/model.pt2", f"{NATIVE}/model.pt"),
    "tensorflow": (f"{SAVED}/saved_model.pb",),
    "ensemble": (DECLARED,),
    "code": (f"{CODE}/model.py",),
}


def files_of(runtime: Runtime) -> tuple[str, ...]:
    """The files of which a runtime opens the one that is there, within a bundle."""
    return _FILES[runtime]


def file_of(runtime: Runtime) -> str:
    """The file that a runtime opens, within a bundle."""
    return _FILES[runtime][0]


def read_manifest(folder: Path, *, verify: bool = True) -> Manifest:
    """The manifest of a bundle; with `verify` every file is read and held against its digest.

    Raises `NotFound` where there is no bundle, `Invalid` for a damaged manifest, `Refused` (nothing is loaded) for a changed,
    missing or unlisted file, a path out of the folder, a pickle, or an ONNX file with external data.
    """
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        if (folder / "MLmodel").is_file():
            raise Invalid(
                f"{folder} is a model of MLflow, not a bundle: its files may run code when they are opened.",
                code="not-a-bundle",
                hint="Save it in a safe form of its library and package that: loopline models package.",
            ) from None
        raise NotFound(
            f"{folder} is no bundle: it has no {MANIFEST}.",
            code="no-bundle",
            hint="Give the folder that packaging wrote"
            + (", of a model in another form: `loopline models package`." if folder.is_file() else "."),
        ) from None
    except msgspec.MsgspecError as error:
        raise Invalid(f"{folder / MANIFEST} is damaged: {error}.", code="bad-manifest") from error
    needed = files_of(manifest.runtime)
    if manifest.digests.keys().isdisjoint(needed):
        raise Refused(f"The manifest in {folder} lists no {' or '.join(needed)}.", code="bundle-incomplete")
    for name in manifest.digests:
        _check_name(folder, name, manifest.runtime)
    if verify:
        _check_files(folder, manifest)
    return manifest


def _check_name(folder: Path, name: str, runtime: Runtime) -> None:
    pure = PurePosixPath(name)
    outside = pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or str(pure) != name
    if outside or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise Refused(f"The manifest in {folder} names {name!r}, which is outside the bundle.", code="bundle-path")
    part = runtime in ("tensorflow", "ensemble") and _SHARD.fullmatch(name)
    if not part and pure.suffix not in _PROGRAMS.get(runtime, _ALLOWED):
        raise Refused(
            f"{name!r} in {folder} is not a form that is ever loaded.",
            code="bundle-format",
            hint="A bundle holds ONNX, JSON, text and the safe forms of libraries; a pickle runs code when it is opened.",
        )


def listed_bytes(folder: Path, name: str, manifest: Manifest) -> bytes:
    """The bytes of a file as the manifest lists it, so that what is opened is what was checked, and signed.

    Raises `Refused` for a file that is missing (code "bundle-incomplete"), and for one that is not listed so ("bundle-changed").
    """
    try:
        data = (folder / name).read_bytes()
    except OSError:
        raise Refused(f"{name!r} is missing in {folder}.", code="bundle-incomplete") from None
    if digest_bytes(data) != manifest.digests.get(name):
        raise Refused(
            f"{name!r} in {folder} was changed since the bundle was written.",
            code="bundle-changed",
            hint="Fetch the bundle again from the registry; `loopline up` does so when it starts.",
            file=name,
        )
    return data


def _check_files(folder: Path, manifest: Manifest) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise Refused(f"{name!r} in {folder} is a symbolic link.", code="bundle-path")
        if (
            path.is_file()
            and name != MANIFEST
            and not name.startswith(f"{SIGNATURES}/")
            and name not in manifest.digests
        ):
            raise Refused(
                f"{name!r} in {folder} is not listed in the manifest.",
                code="bundle-unlisted",
                hint="Take it out, or write the bundle anew.",
            )
    for name in manifest.digests:
        data = listed_bytes(folder, name, manifest)
        check_file(folder / name, name)
        try:
            outside = name.endswith(".onnx") and points_outside(data)
        except Invalid as e:
            raise Invalid(f"{name!r} in {folder} is no ONNX graph.", code="bad-onnx", file=name) from e
        if outside:
            raise Refused(f"{name!r} in {folder} points at data outside itself.", code="bundle-external-data")
