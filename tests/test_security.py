"""What a file from elsewhere cannot do: run code, or reach out of the folder that it is given."""

from __future__ import annotations

import ast
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr.registry
from zarr.codecs import BytesCodec

import chorus_store
from builders import cli, fetch, model_files
from builders.fetch import DownloadError, Resource
from builders.model_list import TrackModel
from chorus_store import manifest, nodes, npz_import
from chorus_store.cli import main
from chorus_store.errors import (
    ChorusStoreError,
    CorruptStoreError,
    InputError,
    SchemaError,
    TrackTableError,
    WeightsError,
)
from tests import npz_files, tiny
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.stores import archive, make_store

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(ROOT / "chorus_store").rglob("*.py"), *(ROOT / "builders").rglob("*.py"), ROOT / "dev.py"])
#: Calls that run code which comes as data, or a shell; and where they may be.
CALLS = {
    "eval", "exec", "compile", "__import__", "importlib.import_module", "runpy.run_path", "os.system", "os.popen",
    "os.execv", "os.execvp", "os.spawnl", "subprocess.getoutput", "subprocess.getstatusoutput", "pickle.load",
    "pickle.loads", "pickle.Unpickler", "marshal.loads", "shelve.open", "joblib.load", "dill.load", "cloudpickle.load",
    "cloudpickle.loads", "yaml.load", "yaml.unsafe_load", "torch.hub.load", "pandas.read_pickle", "pd.read_pickle",
}  # fmt: skip
ALLOWED = {
    ("builders/__init__.py", "importlib.import_module"),  # of an oracle, which is in a table
    ("builders/check.py", "importlib.import_module"),  # of the user's own oracle, which is to be checked
}
#: Keywords with values that open the same doors.
KEYWORDS = {"allow_pickle": True, "shell": True, "weights_only": False}
ALLOWED_KEYWORDS = {("builders/checkpoints.py", "weights_only")}  # behind --trust-pickle


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (found for found in ast.walk(tree) if isinstance(found, ast.Call))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_what_comes_as_data(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    for call in calls(ast.parse(path.read_text())):
        called = ast.unparse(call.func)
        assert called not in CALLS or (name, called) in ALLOWED, (name, call.lineno, called)
        for keyword in call.keywords:
            value = getattr(keyword.value, "value", object())  # a variable may have any value
            opens = keyword.arg in KEYWORDS and value is not (not KEYWORDS[keyword.arg])
            assert not opens or (name, keyword.arg) in ALLOWED_KEYWORDS, (name, call.lineno, keyword.arg)
        if called == "torch.load":
            assert "weights_only" in {keyword.arg for keyword in call.keywords}, (name, call.lineno)


class Trap:
    """What writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    return tmp_path / "sprung"


def test_the_trap_works(sprung: Path) -> None:
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()


def test_a_checkpoint_runs_no_code_unless_it_is_trusted(tmp_path: Path, sprung: Path) -> None:
    torch = pytest.importorskip("torch")
    from builders import checkpoints, trust

    file = tmp_path / "model.pt"
    torch.save({"state_dict": {"a": torch.zeros(1)}, "callbacks": Trap(sprung)}, file)
    for trusted in ([], ["0" * 64]):
        with pytest.raises(WeightsError, match="trust"):
            checkpoints.read_state(file, trust.REMEDY, trusted=trusted)
        assert not sprung.exists()
    checkpoints.read_state(file, trust.REMEDY, trusted=[trust.ANY])
    assert sprung.exists()


def test_an_npz_file_runs_no_code(tmp_path: Path, sprung: Path) -> None:
    arrays = npz_files.background()
    for name in ("track_ids", "extra"):
        values = np.array([Trap(sprung)] * 5, object)
        np.savez(tmp_path / "sei_pertrack.npz", allow_pickle=True, **{**arrays, name: values})
        with pytest.raises(SchemaError, match="pickled"):
            chorus_store.open(tmp_path / "sei_pertrack.npz")
    assert not sprung.exists()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_store(tmp_path / "enformer.zarr", 3, n_quantiles=9)


def change_array(path: Path, change: Callable[[dict[str, Any]], object], name: str = "effect_cdf") -> None:
    """Change the metadata of an array, where they are consolidated and where they are not."""
    for file in (path / "zarr.json", path / name / "zarr.json"):
        document = json.loads(file.read_bytes())
        document.get("attributes", {}).pop("seal", None)
        change(document["consolidated_metadata"]["metadata"][name] if "consolidated_metadata" in document else document)
        file.write_text(json.dumps(document))


class Spy(BytesCodec):
    """A codec that some package has installed."""

    made = 0

    @classmethod
    def from_dict(cls, data: Any) -> Spy:
        cls.made += 1
        return cls()


@pytest.mark.parametrize("codec", ["spy", "numcodecs.pickle", "numcodecs.json2", "numcodecs.bz2", "gzip", "vlen-bytes"])
def test_codecs_that_no_background_has_are_not_looked_for(path: Path, codec: str) -> None:
    zarr.registry.register_codec("spy", Spy)
    for place in (lambda array: array["codecs"], lambda array: array["codecs"][0]["configuration"]["codecs"]):
        again = make_store(path.with_name(f"{id(place)}.zarr"), 3, n_quantiles=9)
        change_array(again, lambda array, place=place: place(array).insert(0, {"name": codec, "configuration": {}}))
        with pytest.raises(SchemaError, match=f"codecs .*{codec}.*no background has"):
            chorus_store.open(again)
        with pytest.raises(SchemaError, match=f"codecs .*{codec}"):
            nodes.open_array(again / "effect_cdf")
    assert Spy.made == 0


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("data_type", "variable_length_bytes"),
        ("data_type", {"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}),
        ("data_type", "object"),
        ("chunk_key_encoding", {"name": "spy"}),
        ("zarr_format", 2),
    ],
)
def test_metadata_that_no_background_has(path: Path, member: str, value: Any) -> None:
    change_array(path, lambda array: array.update({member: value}))
    for read in (lambda: chorus_store.open(path), lambda: nodes.open_array(path / "effect_cdf")):
        with pytest.raises((SchemaError, CorruptStoreError), match=r"no background has|Zarr format 3"):
            read()


@pytest.mark.parametrize("name", ["../outside", "/etc", "a/../../outside", "..", ".", "", "a//b", "C:\\x", "x\0"])
@pytest.mark.parametrize("zipped", [False, True])
def test_arrays_outside_of_the_store(path: Path, name: str, zipped: bool) -> None:
    make_store(path.parent / "outside", 3, n_quantiles=9)
    document = json.loads((path / "zarr.json").read_bytes())
    document["attributes"].pop("seal", None)
    members = document["consolidated_metadata"]["metadata"]
    members[name] = members["effect_cdf"]
    (path / "zarr.json").write_text(json.dumps(document))
    place = archive(path, path.with_suffix(".zarr.zip")) if zipped else path
    with pytest.raises(ChorusStoreError, match="leaves the store"):
        chorus_store.open(place)


def test_members_of_archives_are_names_and_not_paths(path: Path) -> None:
    """They are found by their name in the directory of the archive; nothing is ever unpacked."""
    place = path.with_suffix(".zarr.zip")
    archive(path, place)
    with zipfile.ZipFile(place, "a") as zipped:
        for name in ("../escaped", "/escaped", "effect_cdf/../../escaped"):
            zipped.writestr(name, b"x")
    before = set(path.parent.rglob("*"))
    chorus_store.open(place).load()
    assert set(path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "a/b", "..", "a\\b"])
def test_members_of_an_npz_file_are_no_paths(tmp_path: Path, name: str) -> None:
    file = npz_files.save(tmp_path / "sei_pertrack.npz", npz_files.background())
    with zipfile.ZipFile(file, "a") as zipped:
        zipped.writestr(f"{name}.npy", npz_files.npy(np.zeros(3)))
    before = set(tmp_path.rglob("*"))
    for read in (chorus_store.open, lambda place: npz_import.import_npz(place, tmp_path / "sei.zarr")):
        with pytest.raises(SchemaError, match="a name that a store cannot give it"):
            read(file)
    assert set(tmp_path.rglob("*")) == before


def test_a_manifest_lists_nothing_outside(path: Path) -> None:
    for name in ("../outside", "/etc/hostname", "a/../../b"):
        (path / "manifest").mkdir(exist_ok=True)
        (path / "manifest/zarr.json").write_bytes(manifest.content({name: "0" * 64}))
        with pytest.raises(CorruptStoreError, match="not what was written"):
            manifest.read(path)


def tar_of(*members: tuple[str, str | None]) -> bytes:
    """A tar of a file or, where there is a target, a link."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, target in members:
            info = tarfile.TarInfo(name)
            if target is not None:
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
            else:
                info.size = 1
                tar.addfile(info, io.BytesIO(b"x"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", None)],
        [("link", "../../.."), ("link/escaped", None)],
        [("link", "/tmp")],
        [("a/link", "../../../escaped")],
    ],
)
def test_an_archive_is_unpacked_in_its_folder_or_not_at_all(
    site: Site, tmp_path: Path, members: list[tuple[str, str | None]]
) -> None:
    site.files["/model.tar.gz"] = tar_of(("sound", None), *members)
    resource = Resource("model", f"{site.url}/model.tar.gz", "model", "1 kB", "none", unpack="untar")
    home = tmp_path / "home"
    with pytest.raises(DownloadError):
        fetch.download(resource, home)
    assert [*home.iterdir()] == []
    assert [*tmp_path.iterdir()] == [home]


def test_a_redirect_away_from_https_is_not_followed(site: Site, tmp_path: Path) -> None:
    """Neither to http nor to anything else; the loopback interface is taken for secure."""
    for target in ("http://example.org/x", "ftp://example.org/x", "file:///etc/hostname", "//example.org/x"):
        site.redirects["/x"] = target
        resource = Resource("x", f"{site.url}/x", "x", "1 kB", "none")
        with pytest.raises(DownloadError, match="not https"):
            fetch.download(resource, tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "ftp://127.0.0.1/x", "file:///etc/hostname", "http://127.0.0.1.example.org/x"]
)
def test_nothing_but_https_is_downloaded(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="not https"):
        fetch.download(Resource("x", url, "x", "1 kB", "none"), tmp_path)
    assert fetch.unreachable({"x": url})["x"].endswith("is not https")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/",
        "/..",
        "/.",
        "/a/..",
        "/.tar.gz",
        "/.hidden.h5",
        "/observed.json",
        "/observed.json.tar.gz",
        "/a:b",
        "/" + "a" * 201,
    ],
)
def test_a_downloaded_model_has_a_name_of_its_own(address: str) -> None:
    with pytest.raises(TrackTableError, match="no address of a file"):
        TrackModel("ATAC:K562", f"https://example.org{address}")


def test_two_models_of_one_name_are_not_taken_for_each_other(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHORUS_DATA_DIR", str(tmp_path))
    site.files.update({"/one/model.h5": b"one", "/two/model.h5": b"two"})
    one, two = (TrackModel(f"ATAC:{name}", f"{site.url}/{name}/model.h5") for name in ("one", "two"))
    (file,) = model_files.located([one], None, offline=False).values()
    assert file.read_bytes() == b"one"
    with pytest.raises(InputError, match=r"another file of this name, from .*/two/model\.h5"):
        model_files.located([two], None, offline=False)


def test_links_are_followed_to_read_and_never_to_remove(tmp_path: Path) -> None:
    """A store, and a part of one, may be a link; when facts are discarded what they are linked to stays."""
    arguments = tiny.arguments(tiny.write_inputs(tmp_path / "inputs"), tmp_path / "out")
    assert cli.run(tiny.TinyOracle, [*arguments, "--part", "variants"]) == 0
    assert cli.run(tiny.TinyOracle, [*arguments, "--part", "baselines"]) == 0
    store, elsewhere = tmp_path / "out/tiny.zarr", tmp_path / "elsewhere"
    (store / "samples").rename(elsewhere)
    (store / "samples").symlink_to(elsewhere, target_is_directory=True)
    before = sorted(elsewhere.rglob("*"))
    assert cli.run(tiny.TinyOracle, [*arguments, "--part", "merge", "--discard-facts"]) == 0
    assert chorus_store.open(store).sizes["track"] == 7
    assert sorted(elsewhere.rglob("*")) == before


def test_what_a_file_says_is_no_code_for_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = npz_files.with_current_keys(npz_files.background())
    arrays["track_ids"][0] = "\x1b[2J\x9b31m"
    arrays["layers_per_row"][0] = "tf\x1b]0;title\x07"
    file = str(npz_files.save(tmp_path / "sei_pertrack.npz", arrays))
    (tmp_path / "effects.tsv").write_text("track\tvalue\n\x1b[2J\t1\n")
    for argv in (["tracks", file], ["info", file], ["percentile", file, str(tmp_path / "effects.tsv")]):
        main(argv)
        shown = "".join(capsys.readouterr())
        assert shown.replace("\n", "").isprintable(), (argv, shown)
        assert "\\x1b" in shown
