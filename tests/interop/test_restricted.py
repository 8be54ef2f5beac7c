"""Files of torch.save are read as they are, and one that would run something is refused by name and runs nothing."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from copy import copy
from pathlib import Path

import foreign_writer
import pytest
import torch
from foreign_writer import plain

from polyclock.interop.pickles import Restored
from polyclock.interop.restricted import PICKLE_BYTES, read

MAGIC = 0x1950A86A20F9469CFC6C
STORAGE = (
    b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu"  # then the count, t, Q
)
REBUILD = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
HOOKS = b"\x89ccollections\nOrderedDict\n)RtR."
# An empty array, for its state; in the memo: what makes one, with which arguments, and its dtype.
ARRAY = (
    b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00f8K\x00K\x01tR(K\x03X\x01\x00\x00\x00>NNNK\x00K\x00K\x00tbq\x020"
    b"cnumpy.core.multiarray\n_reconstruct\nq\x00cnumpy\nndarray\nK\x00\x85X\x01\x00\x00\x00b\x87q\x01R"
)


def archive(path: Path, program: bytes, records: dict[str, bytes] | None = None) -> Path:
    """A zip file as torch.save lays it out, with this pickle in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("x/data.pkl", program)
        file.writestr("x/byteorder", "little")
        for name, data in (records or {}).items():
            file.writestr(f"x/{name}", data)
    return path


def stream(path: Path, program: bytes, after: bytes = b"") -> Path:
    """A file of the older layout with this pickle in the object's place."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = b"".join(pickle.dumps(part, 2) for part in (MAGIC, 1001, system))
    path.write_bytes(head + program + (after or pickle.dumps([], 2)))
    return path


def number(n: int) -> bytes:
    return b"\x8a\x08" + n.to_bytes(8, "little", signed=True)


FOUR = number(4) + b"\x85"
ONE = number(1) + b"\x85"


def tensor(count: int, offset: int, size: bytes, stride: bytes) -> bytes:
    """The pickle of one tensor over a storage that says it has `count` numbers."""
    return REBUILD + STORAGE + number(count) + b"tQ" + number(offset) + size + stride + HOOKS


# ---------------------------------------------------------------- what runs something


class Touch:
    """Its pickle makes a file when it is read the usual way."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> tuple:
        return self.what


def programs(marker: Path) -> dict[str, tuple[bytes, str]]:
    """name -> (a pickle that makes `marker`, the name by which it must be refused)."""
    command, code = f"touch {marker}", f"open({str(marker)!r}, 'w')"
    text = json.dumps(command).strip('"').encode()
    out = {
        "system": (b"cos\nsystem\n(V" + text + b"\ntR.", "os.system"),
        "system by INST": (b"(V" + text + b"\nios\nsystem\n.", "INST ('os system')"),
        "system by OBJ": (b"(cos\nsystem\nV" + text + b"\no.", "os.system"),
        "never called": (b"\x80\x02cos\nsystem\n.", "os.system"),
        "after other things": (b"\x80\x02]" + b"(K\x01K\x02cposix\nsystem\ne.", "posix.system"),
        "posix": (pickle.dumps(Touch(os.system, command), 2), "posix.system"),
        "new name opcode": (pickle.dumps(Touch(os.system, command), 4), "posix.system"),
        "dotted": (b"\x80\x04\x8c\x08builtins\x8c\x0eobject.__new__\x93.", "builtins.object.__new__"),
        "getattr": (b"\x80\x02cbuiltins\ngetattr\n(cos\npath\nX\x02\x00\x00\x00ostR.", "builtins.getattr"),
        "old eval": (b"c__builtin__\neval\n(V" + code.encode() + b"\ntR.", "__builtin__.eval"),
        "import": (b"cbuiltins\n__import__\n(Vos\ntR.", "builtins.__import__"),
        "load": (b"ctorch\nload\n(V/etc/passwd\ntR.", "torch.load"),
        "hub": (b"ctorch.hub\nload\n(Va/b\nVc\ntR.", "torch.hub.load"),
        "numpy": (b"cnumpy\nload\n(Va\nI01\ntR.", "numpy.load"),
        "partial": (b"cfunctools\npartial\n(cos\nsystem\ntR.", "functools.partial"),
        "reconstructor": (b"ccopyreg\n_reconstructor\n(cos\nsystem\nNNtR.", "copyreg._reconstructor"),
        "storage's loader": (b"ctorch.storage\n_load_from_bytes\n(C\x01atR.", "torch.storage._load_from_bytes"),
        "subclass": (b"ctorch._tensor\n_rebuild_from_type_v2\n.", "torch._tensor._rebuild_from_type_v2"),
        "stand-in elsewhere": (b"cdatasets.utils.normalizer\nLinearNormalizer\n.", "LinearNormalizer"),
    }
    for name, function in (("eval", eval), ("exec", exec)):
        out[name] = (pickle.dumps(Touch(function, code), 3), f"builtins.{name}")
    out["popen"] = (pickle.dumps(Touch(subprocess.Popen, ["touch", str(marker)]), 4), "subprocess.Popen")
    return out


PROGRAMS = list(programs(Path("/nowhere")))


@pytest.mark.parametrize("layout", ["archive", "stream"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_would_run_is_refused_by_name(tmp_path: Path, name: str, layout: str) -> None:
    marker = tmp_path / "made"
    program, refused = programs(marker)[name]
    path = (archive if layout == "archive" else stream)(tmp_path / "models.pt", program)
    with pytest.raises(ValueError) as error:
        read(path)
    message = str(error.value)
    assert refused in message and str(path) in message and "byte" in message, message
    assert not marker.exists()


def test_the_programs_are_live(tmp_path: Path) -> None:
    """The usual reader runs them: what is refused above is no dud."""
    for name in ("system", "posix", "new name opcode", "eval", "popen", "old eval"):
        marker = tmp_path / name.replace(" ", "_")
        result = pickle.loads(programs(marker)[name][0])  # noqa: S301
        if isinstance(result, subprocess.Popen):
            result.wait()
        assert marker.exists(), name


@pytest.mark.parametrize(
    ("program", "part"),
    [
        (b"\x80\x02]K\x01b.", "a list is given attributes"),
        (b"\x80\x02}}X\x08\x00\x00\x00__dict__K\x01sb.", "a dict is given attributes"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x04\x00\x00\x00callK\x01sb.", "a Named is given attributes"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.", "an instance of torch._utils._rebuild_tensor_v2"),
        (b"\x80\x02ctorch\nFloatStorage\n)R.", "torch.FloatStorage is called"),
        (b"\x80\x02K\x01)R.", "1 is called"),
        (b"\x80\x02}K\x01K\x02\x86K\x03s.", "a tuple is the key"),
        (b"\x80\x02K\x05K\x01K\x02s.", "put into a int"),
        (b"\x80\x02P0\n.", "PERSID"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x04)}\x92.", "NEWOBJ_EX"),
        (b"\x80\x02(K\x01", "no readable pickle"),
        (b"\x80\x02u.", "no readable pickle"),
        (b"\x80\x02\x85.", "no readable pickle"),
        (b"\x80\x02h\x05.", "no readable pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fabc.", "no readable pickle"),
        (b"\xff\xff\xff", "no readable pickle"),
        (b"\x80\x02ctorch\nFloatStorage\nQ.", "persistent id that is no storage"),
        (b"\x80\x02(X\x06\x00\x00\x00moduleccollections\nOrderedDict\nK\x01K\x02K\x03tQ.", "no storage"),
        (b"\x80\x02" + STORAGE + b"K\x01tQ" + b"\x85Q.", "no storage"),
        (b"\x80\x02c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "only latin1"),
        (b"\x80\x02cnumpy\ndtype\n(X\x02\x00\x00\x00O8K\x00K\x01tR.", "only numbers"),
        (b"\x80\x02cnumpy\ndtype\n(X\x03\x00\x00\x00f,OK\x00K\x01tR.", "only numbers"),
        (b"\x80\x02ccollections\nOrderedDict\n(]tR.", "does not take"),
        (b"\x80\x04K\x01\x8c\x01a\x93.", "1 and 'a' are a name"),
        (b"\x80\x04\x8c\x08\x1b[2J\x1b[1m\x8c\x01a\x93.", r"asks for '\x1b[2J\x1b[1m.a'"),
        (b"\x80\x02}\x8a\x08" + ((1 << 61) - 1).to_bytes(8, "little") + b"Ns.", "is the key of a dict"),
        (b"\x80\x02Np2305843009213693951\n.", "the memo 2305843009213693951"),
        (ARRAY + (b"(K\x01K\x01\x85h\x02\x89C\x08" + bytes(8) + b"tb") * 2 + b".", "filled once"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path: Path, program: bytes, part: str) -> None:
    path = archive(tmp_path / "models.pt", program, {"data/0": bytes(4)})
    with pytest.raises(ValueError, match=".") as error:
        read(path)
    assert part in str(error.value)


def test_a_tensor_where_an_array_has_its_order_is_refused(tmp_path: Path) -> None:
    program = ARRAY + b"(K\x01K\x00\x85h\x02" + tensor(4, 0, FOUR, ONE)[2:-1] + b"C\x00tb."
    with pytest.raises(ValueError, match="does not take its state"):
        read(archive(tmp_path / "models.pt", program, {"data/0": bytes(16)}))


def test_nests_and_shared_parts_do_not_blow_up(tmp_path: Path) -> None:
    """A hundred doublings: printed, hashed or compared it would fill any memory."""
    doubled = b"\x80\x02)" + b"2\x86" * 100
    for end in (b".", b"}ctorch\nSize\nh\x00."):
        assert read(archive(tmp_path / "a.pt", doubled + b"q\x00" + end)) is not None
    for call in (b"ctorch\nSize\n", b"cnumpy\ndtype\n"):
        with pytest.raises(ValueError, match="tuple"):
            read(archive(tmp_path / "b.pt", b"\x80\x02" + call + doubled[2:] + b"\x85R."))
    with pytest.raises(ValueError, match="a tuple and 'a' are a name"):
        read(archive(tmp_path / "b.pt", doubled + b"\x8c\x01a\x93."))
    deep = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    assert len(read(archive(tmp_path / "c.pt", deep))) == 1


def test_a_small_file_does_not_ask_for_much_memory(tmp_path: Path) -> None:
    """One text or array that is named again and again, and records that share their bytes: copies would fill any."""
    text = b"X" + struct.pack("<I", 8000) + b"a" * 8000
    bytes_of = b"c_codecs\nencode\nq\x05" + text + b"X\x06\x00\x00\x00latin1\x86q\x06"
    texts = b"\x80\x02" + bytes_of + b"](" + b"h\x05h\x06R" * 100 + b"e."
    state = b"(K\x01M\xe8\x03\x85h\x02\x89h\x05h\x06Rtq\x07"
    arrays = ARRAY[:-1] + bytes_of + state + b"](" + b"h\x00h\x01Rh\x07b" * 100 + b"e."
    for program in (texts, arrays):
        with pytest.raises(ValueError, match="again and again"):
            read(archive(tmp_path / "a.pt", program))
    path = tmp_path / "b.pt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", b"N.")
        file.writestr("x/data/0", bytes(16))
        again = copy(file.getinfo("x/data/0"))
        again.filename = "x/data/1"
        file.filelist.append(again)
    with pytest.raises(ValueError, match="'x/data/1' lies within another"):
        read(path)


# ---------------------------------------------------------------- sizes that lie


@pytest.mark.parametrize(
    ("program", "records", "part"),
    [
        (tensor(4, 0, FOUR, ONE), {"data/0": bytes(12)}, "has 12 bytes, not the 16"),
        (tensor(4, 0, FOUR, ONE), {"data/0": bytes(20)}, "has 20 bytes, not the 16"),
        (tensor(4, 0, FOUR, ONE), {"data/1": bytes(16)}, "'0' is not in the file"),
        (tensor(4, 1, FOUR, ONE), {"data/0": bytes(16)}, "at 1 in 4 stored numbers"),
        (tensor(4, 0, FOUR, number(2) + b"\x85"), {"data/0": bytes(16)}, "in 4 stored numbers"),
        (tensor(4, 0, FOUR, number(-1) + b"\x85"), {"data/0": bytes(16)}, "-1, which is no whole number"),
        (tensor(4, -1, FOUR, ONE), {"data/0": bytes(16)}, "-1, which is no whole number"),
        (tensor(4, 0, number(1 << 40) + b"\x85", number(0) + b"\x85"), {"data/0": bytes(16)}, "in 4 stored numbers"),
        (tensor(4, 0, number(1 << 60) + b"\x85", ONE), {"data/0": bytes(16)}, "no whole number"),
        (tensor(4, 0, FOUR, b")"), {"data/0": bytes(16)}, "another number of axes"),
        (tensor(1 << 47, 0, FOUR, ONE), {"data/0": bytes(16)}, "not the 562949953421312"),
        (tensor(4, 0, b"X\x01\x00\x00\x00a", ONE), {"data/0": bytes(16)}, "not a few whole numbers"),
    ],
)
def test_sizes_that_lie_are_refused(tmp_path: Path, program: bytes, records: dict[str, bytes], part: str) -> None:
    path = archive(tmp_path / "models.pt", program, records)
    with pytest.raises(ValueError) as error:
        read(path)
    assert part in str(error.value)


def test_the_same_tensor_told_truly_is_read(tmp_path: Path) -> None:
    data = struct.pack("<4f", 1, 2, 3, 4)
    path = archive(tmp_path / "models.pt", tensor(4, 0, FOUR, ONE), {"data/0": data})
    assert read(path).tolist() == [1, 2, 3, 4]


def test_archives_that_are_not_torch_s_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(1 << 24))
    with pytest.raises(ValueError, match="compressed"):
        read(bomb)
    double = tmp_path / "double.pt"
    with zipfile.ZipFile(double, "w") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("x/data.pkl", b"N.")
        file.writestr("x/data.pkl", b"cos\nsystem\n.")
    with pytest.raises(ValueError, match="twice"):
        read(double)
    big = archive(tmp_path / "big.pt", b"N." + bytes(PICKLE_BYTES))
    with pytest.raises(ValueError, match="more than"):
        read(big)
    program = tmp_path / "program.pt"
    with zipfile.ZipFile(program, "w") as file:
        file.writestr("x/data.pkl", b"N.")
        file.writestr("x/code/__torch__.py", b"")
    with pytest.raises(ValueError, match="TorchScript"):
        read(program)
    whole = archive(tmp_path / "whole.pt", tensor(4, 0, FOUR, ONE), {"data/0": bytes(16)}).read_bytes()
    for cut in (40, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.pt").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"cut\.pt"):
            read(tmp_path / "cut.pt")
    name = whole.rindex(b"x/byteorder")  # where the archive lists its records
    listed = bytearray(whole)
    listed[name - 38 : name - 36], listed[name] = struct.pack("<H", 0x800), 0xFF
    (tmp_path / "name.pt").write_bytes(listed)
    with pytest.raises(ValueError, match=r"name\.pt is a damaged zip archive"):
        read(tmp_path / "name.pt")
    with zipfile.ZipFile(tmp_path / "big_end.pt", "w") as file:
        file.writestr("x/data.pkl", b"N.")
        file.writestr("x/byteorder", b"big")
    with pytest.raises(ValueError, match="byte order"):
        read(tmp_path / "big_end.pt")


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no file"):
        read(tmp_path / "absent.pt")
    (tmp_path / "short.pt").write_bytes(b"PK")
    with pytest.raises(ValueError, match="too short"):
        read(tmp_path / "short.pt")
    (tmp_path / "text.pt").write_bytes(b"hello " * 100)
    with pytest.raises(ValueError, match="no file of torch.save"):
        read(tmp_path / "text.pt")


def test_older_layout_with_lying_storages(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(5.0), "b": torch.zeros(3)}, buffer, _use_new_zipfile_serialization=False)
    whole = buffer.getvalue()
    path = tmp_path / "models.pt"
    path.write_bytes(whole)
    assert read(path)["a"].tolist() == [0, 1, 2, 3, 4]
    for damaged, part in (
        (whole[:-4], "beyond the end"),
        (whole.replace(struct.pack("<q", 5), struct.pack("<q", 6), 1), ""),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"models\.pt") as error:
            read(path)
        assert part in str(error.value)


# ---------------------------------------------------------------- what is as it should be


class Pair(Restored):
    """Stands in for the class that the subprocess made up."""

    def restore(self, state: dict) -> None:
        self.scale, self.offset = state["scale"], state["offset"]


class Table(Restored, dict):
    """Stands in for its dict of them."""


STAND_INS = {
    "datasets.utils.normalizer.LinearNormalizer": Pair,
    "datasets.utils.normalizer.NestedDictLinearNormalizer": Table,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what another process saved, in both layouts, and what torch.load found there."""
    folder = tmp_path_factory.mktemp("written")
    done = subprocess.run(
        [sys.executable, foreign_writer.__file__, str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("layout", ["new", "old"])
def test_what_torch_saves_is_read_as_torch_loads_it(written: Path, layout: str) -> None:
    found = read(written / f"{layout}.pt", STAND_INS)
    assert found["loop"][0] is found["loop"]
    found.pop("loop")
    assert plain(found) == json.loads((written / f"{layout}.json").read_text())
    a, b, c, d = found["views"]
    a[3, 0] = 9.0
    assert b[0, 3] == 9.0 and d[0] == 9.0 and c[2, 0] == 9.0, "views share their numbers"


def test_without_stand_ins_their_class_is_named(written: Path) -> None:
    with pytest.raises(ValueError, match=r"datasets\.utils\.normalizer\.LinearNormalizer"):
        read(written / "new.pt")


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_tensors_are_not_read_before_they_are_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "models.pt"
    torch.save(OrderedDict(small=torch.ones(4), large=torch.ones(16 << 20)), path)
    before = resident()
    found = read(path)
    assert resident() - before < 8 << 20 and path.stat().st_size > 64 << 20
    assert found["large"][-1] == 1
    found["large"][0] = 5.0
    assert read(path)["large"][0] == 1, "writing to a tensor leaves the file alone"
    path.unlink()
    assert float(found["large"].sum()) == (16 << 20) + 4
