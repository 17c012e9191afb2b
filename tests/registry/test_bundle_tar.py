"""Attacks on tars (rows 7 to 15 of the list of attacks), and that an honest one goes round."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopline.errors import Invalid, LooplineError
from loopline.registry import bundle_tar
from loopline.registry.formats import check_file


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, data in members:
            info.size = len(data) if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE) else 0
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    return info


GOOD = (member("good.json"), b"{}")


def headers_in_headers(kind: bytes, data: bytes) -> bytes:
    """A tar of very many headers that are each about the next: reading one reads the other, without an end."""
    info = member("././@LongLink", kind)
    info.size = len(data)
    one = info.tobuf(tarfile.GNU_FORMAT) + data.ljust(-(-len(data) // 512) * 512, b"\0")
    return one * 3000 + tar_of(GOOD)


ATTACKS: dict[str, bytes] = {
    "long names of long names": headers_in_headers(tarfile.GNUTYPE_LONGNAME, b"a" * 300),
    "extended headers of extended headers": headers_in_headers(tarfile.XHDTYPE, b"15 path=b.json\n"),
    "symbolic link": tar_of((member("a", tarfile.SYMTYPE, "/etc"), b""), (member("a/passwd.json"), b"{}")),
    "symbolic link up": tar_of((member("a", tarfile.SYMTYPE, ".."), b""), GOOD),
    "hard link": tar_of(GOOD, (member("b.json", tarfile.LNKTYPE, "good.json"), b"")),
    "hard link out": tar_of((member("b.json", tarfile.LNKTYPE, "/etc/passwd"), b"")),
    "character device": tar_of((member("null", tarfile.CHRTYPE), b"")),
    "block device": tar_of((member("disk", tarfile.BLKTYPE), b"")),
    "pipe": tar_of((member("pipe", tarfile.FIFOTYPE), b"")),
    "contiguous": tar_of((member("cont", tarfile.CONTTYPE), b"")),
    "absolute": tar_of((member("/etc/x.json"), b"{}")),
    "absolute folder": tar_of((member("/etc/", tarfile.DIRTYPE), b"")),
    "up": tar_of((member("../x.json"), b"{}")),
    "up inside": tar_of((member("a/../../x.json"), b"{}")),
    "up as folder": tar_of((member("../x", tarfile.DIRTYPE), b"")),
    "backslash": tar_of((member("..\\x.json"), b"{}")),
    "drive": tar_of((member("c:x.json"), b"{}")),
    "unicode dots": tar_of((member("․․/x.json"), b"{}")),
    "not ASCII": tar_of((member("größe.json"), b"{}")),
    "trailing dot": tar_of((member("x.json."), b"{}")),
    "trailing space": tar_of((member("a /x.json"), b"{}")),
    "hidden": tar_of((member(".ssh/x.json"), b"{}")),
    "reserved": tar_of((member("nul.json"), b"{}")),
    "escape": tar_of((member("a\x1b[2J.json"), b"{}")),
    "newline": tar_of((member("a\nb.json"), b"{}")),
    "long name": tar_of((member("x" * 5000), b"{}")),
    "empty part": tar_of((member("a//x.json"), b"{}")),
    "twice": tar_of(GOOD, GOOD),
    "twice by case": tar_of(GOOD, (member("GOOD.json"), b"{}")),
    "below a file": tar_of((member("a"), b"{}"), (member("a/b.json"), b"{}")),
    "file over folder": tar_of((member("a/b.json"), b"{}"), (member("a"), b"{}")),
    "cut off": tar_of((member("x.json"), b"0" * 5000))[:3000],
    "cut off header": tar_of(GOOD)[:300],
    "broken checksum": tar_of(GOOD).replace(b"good.json", b"baad.json"),
    "gzip": gzip.compress(tar_of(GOOD)),
    "empty": b"",
    "no files": tar_of(),
    "only folders": tar_of((member("a", tarfile.DIRTYPE), b"")),
    "noise": os.urandom(4096),
    "zip": b"PK\x03\x04" + b"\0" * 600,
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_writes_nothing_outside(name: str, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    with pytest.raises(Invalid) as caught:
        bundle_tar.unpack([ATTACKS[name]], box / "in")
    assert caught.value.hint
    assert [p.name for p in tmp_path.iterdir()] == ["box"]
    assert [p.name for p in box.iterdir()] == ["in"]
    assert not any(p.is_symlink() for p in box.rglob("*"))


def test_a_nul_in_a_name_ends_it(tmp_path: Path) -> None:
    """Tar names end at NUL in old headers; in a PAX record one is refused or never reaches the disk."""
    info = member("plain")
    info.pax_headers = {"path": "a\0b.json"}
    try:
        sizes = bundle_tar.unpack([tar_of((info, b"{}"))], tmp_path / "in")
    except LooplineError:
        sizes = {}
    assert not any("\0" in name for name in sizes)


def test_pax_headers_cannot_rename_a_member_out(tmp_path: Path) -> None:
    for path in ("../../out.json", "/tmp/out.json"):
        info = member("innocent.json")
        info.pax_headers = {"path": path}
        with pytest.raises(Invalid):
            bundle_tar.unpack([tar_of((info, b"{}"))], tmp_path / path.replace("/", "_"))


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    info = member("big.json")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
    with pytest.raises(Invalid):
        bundle_tar.unpack([tar_of((info, b"1\n0\n0\n" + b"\0" * 506))], tmp_path / "in")


def test_limits_hold(tmp_path: Path) -> None:
    many = tar_of(*((member(f"f{i}.json"), b"{}") for i in range(bundle_tar.MOST_FILES + 1)))
    with pytest.raises(Invalid, match="more than"):
        bundle_tar.unpack([many], tmp_path / "many")
    folders = tar_of(*((member(f"f{i}", tarfile.DIRTYPE), b"") for i in range(4 * bundle_tar.MOST_FILES + 2)))
    with pytest.raises(Invalid, match="more than"):
        bundle_tar.unpack([folders], tmp_path / "folders")
    big = tar_of((member("a.json"), b"0" * 600), (member("b.json"), b"0" * 600))
    with pytest.raises(Invalid, match="larger"):
        bundle_tar.unpack([big], tmp_path / "big", most_bytes=1000)
    # A header that claims a terabyte is refused before anything is read for it.
    huge = member("a.json")
    huge.size = 1 << 40
    with pytest.raises(Invalid, match="larger"):
        bundle_tar.unpack([huge.tobuf(tarfile.GNU_FORMAT)], tmp_path / "huge")


def test_it_unpacks_only_into_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError):
        bundle_tar.unpack([tar_of(GOOD)], tmp_path / "there")
    (tmp_path / "swapped").symlink_to(tmp_path / "there")
    with pytest.raises(FileExistsError):
        bundle_tar.unpack([tar_of(GOOD)], tmp_path / "swapped")
    assert list((tmp_path / "there").iterdir()) == []


NAMES = st.lists(st.from_regex(r"[a-z0-9]{1,8}(\.json)?", fullmatch=True), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(NAMES, st.binary(max_size=2000), min_size=1, max_size=6), st.integers(1, 700))
def test_an_honest_tar_goes_round(tmp_path_factory: Any, files: dict[str, bytes], piece: int) -> None:
    clash = any(a != b and (b + "/").startswith(a + "/") for a in files for b in files)
    reserved = any(part.partition(".")[0] in ("con", "prn", "aux", "nul") for name in files for part in name.split("/"))
    packed = bundle_tar.pack_files(files.items())
    into = tmp_path_factory.mktemp("tar") / "in"
    pieces = [packed[i : i + piece] for i in range(0, len(packed), piece)]
    if clash or reserved:
        with pytest.raises(Invalid):
            bundle_tar.unpack(pieces, into)
        return
    assert bundle_tar.unpack(pieces, into) == {name: len(data) for name, data in files.items()}
    assert {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*") if p.is_file()} == files
    assert bundle_tar.pack(into) == packed
    assert all(p.stat().st_mode & 0o077 == 0 for p in into.rglob("*") if p.is_file())


def test_a_tar_of_the_common_program_is_taken(tmp_path: Path, bundle: Callable[..., bytes]) -> None:
    import subprocess

    source = tmp_path / "source"
    bundle_tar.unpack([bundle()], source)
    subprocess.run(["tar", "-cf", str(tmp_path / "a.tar"), "-C", str(source), "."], check=True)
    sizes = bundle_tar.unpack([(tmp_path / "a.tar").read_bytes()], tmp_path / "again")
    assert "native/model.json" in sizes
    assert bundle_tar.pack(tmp_path / "again") == bundle()


def test_a_folder_with_a_link_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "a.json").symlink_to("/etc/passwd")
    with pytest.raises(Invalid):
        bundle_tar.pack(tmp_path)


class Evil:
    """What a pickle does when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("true",))


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "suffix", ["onnx", "json", "txt", "npy", "safetensors", "skops", "pkl", "joblib", "pt", "so", "py"]
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_by_any_name(suffix: str, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(pickle.dumps(Evil(), protocol=protocol))
    with pytest.raises(Invalid):
        check_file(path, path.name)


@pytest.mark.parametrize("suffix", ["onnx", "json", "txt", "skops", "npz", "pt"])
def test_a_zip_is_refused_by_any_name_also_a_broken_one(suffix: str, tmp_path: Path) -> None:
    whole = zipped("data.pkl", pickle.dumps(Evil()))
    for data in (whole, whole.replace(b"data.pkl", b"data.txt", 1), whole[:14] + b"\0\0\0\0" + whole[18:]):
        path = tmp_path / f"model.{suffix}"
        path.write_bytes(data)
        with pytest.raises(Invalid):
            check_file(path, path.name)


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.json", b"{"), ("a.json", b'{"a": NaN}'), ("a.json", b"[" * 100_000), ("a.json", b"\xff\xfe"), ("a.json", b""),
     ("a.txt", b"\0"), ("a.txt", b"\xc0\xae\xc0\xae"), ("a.onnx", b""), ("a.onnx", b"{}"), ("a", b"x"), ("a.JSON", b"x")],
)  # fmt: skip
def test_a_file_that_is_not_what_it_says_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Invalid):
        check_file(tmp_path / name, name)


def test_real_forms_pass(tmp_path: Path) -> None:
    import lightgbm
    import numpy as np
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    x = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(int)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, lightgbm.Dataset(x, y), 3)
    (tmp_path / "trees.txt").write_text(booster.model_to_string())
    (tmp_path / "model.onnx").write_bytes(to_onnx(LogisticRegression().fit(x, y), x).SerializeToString())
    (tmp_path / "a.json").write_bytes(b'{"a": [1, 2.5, null]}')
    for path in tmp_path.iterdir():
        check_file(path, path.name)


@pytest.mark.parametrize(
    "text", ["classes\nno\nyes\n", "category one\ntwo\n", "inputs\na\nb\nRest", "tree\nversion=v4\n", ""]
)
def test_plain_words_are_no_pickle(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(text)
    check_file(tmp_path / "a.txt", "a.txt")


def test_a_long_pickle_of_letters_is_seen_in_its_head(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(pickle.dumps([Evil(), "x" * 200_000], protocol=0))
    with pytest.raises(Invalid):
        check_file(tmp_path / "a.txt", "a.txt")
