"""Resources against a real HTTP server on the loopback interface."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builders import fetch, ledger, resources, resources_cli
from builders.resources import RESOURCES, Resource, resolve
from chorus_store.errors import InputError, MissingResourceError
from tests.http_site import Site
from tests.http_site import site as site  # a fixture

ROOT = Path(__file__).resolve().parents[1]
GENOME = b">chr20\n" + b"ACGT" * 50_000 + b"\n"


Publish = Callable[..., Resource]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("CHORUS_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def publish(site: Site, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Put bytes on the site and register them as a resource."""

    def put(name: str, body: bytes | None, file_name: str | None = None, **fields: str) -> Resource:
        resource = Resource(name, f"{site.url}/{name}", file_name or name, "1 kB", "none", **fields)  # type: ignore[arg-type]
        if body is not None:
            site.files[f"/{name}"] = body
        monkeypatch.setitem(RESOURCES, name, resource)
        return resource

    return put


def sha256(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def nothing_left(folder: Path) -> bool:
    return not folder.exists() or not [entry for entry in folder.iterdir() if entry.name != ledger.LEDGER]


def test_download_once_then_never_again(site: Site, publish: Publish, data: Path) -> None:
    publish("genome.fa", GENOME, checksum=sha256(GENOME))
    for _ in range(2):
        assert resolve({"fasta": "genome.fa"}) == {"fasta": data / "genome.fa"}
        assert (data / "genome.fa").read_bytes() == GENOME
        site.files.clear()
    assert site.gets == ["/genome.fa"]
    assert resolve({"fasta": "genome.fa"}, offline=True) == {"fasta": data / "genome.fa"}


def test_gzip_is_unpacked_and_checked_packed(publish: Publish, data: Path) -> None:
    packed = gzip.compress(GENOME)
    publish("genome.fa.gz", packed, "genome.fa", checksum=sha256(packed), unpack="gunzip")
    assert resolve({"fasta": "genome.fa.gz"})["fasta"].read_bytes() == GENOME
    assert sorted(entry.name for entry in data.iterdir()) == ["genome.fa", "observed.json"]


def test_tar_becomes_a_folder_whose_files_are_watched(publish: Publish, data: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("saved_model.pb", "variables/variables.index"):
            info = tarfile.TarInfo(name)
            info.size = 5
            tar.addfile(info, io.BytesIO(b"model"))
    publish("model", buffer.getvalue(), "saved", unpack="untar")
    folder = resolve({"weights": "model"})["weights"]
    assert (folder / "variables" / "variables.index").read_bytes() == b"model"
    assert resolve({"weights": "model"}) == {"weights": folder}
    (folder / "saved_model.pb").write_bytes(b"other")
    with pytest.raises(InputError, match="saved is not what was downloaded"):
        resolve({"weights": "model"})


def test_a_tar_cannot_write_outside(publish: Publish, data: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
    publish("model", buffer.getvalue(), "saved", unpack="untar")
    with pytest.raises(MissingResourceError, match="escaped"):
        resolve({"weights": "model"})
    assert nothing_left(data) and not (data.parent / "escaped").exists()


def test_wrong_checksum_keeps_nothing(publish: Publish, data: Path) -> None:
    publish("genome.fa", GENOME, checksum=sha256(b"another"))
    with pytest.raises(MissingResourceError, match="another checksum than the pinned"):
        resolve({"fasta": "genome.fa"})
    assert nothing_left(data)


def test_a_download_that_breaks_off_starts_afresh(site: Site, publish: Publish, data: Path) -> None:
    publish("genome.fa", GENOME)
    site.broken.add("/genome.fa")
    with pytest.raises(MissingResourceError, match="broke off; try again"):
        resolve({"fasta": "genome.fa"})
    assert nothing_left(data)
    site.broken.clear()
    assert resolve({"fasta": "genome.fa"})["fasta"].read_bytes() == GENOME


@pytest.mark.parametrize("body", [b"no gzip at all", gzip.compress(GENOME)[:-20]])
def test_damaged_archives_keep_nothing(publish: Publish, data: Path, body: bytes) -> None:
    publish("genome.fa.gz", body, "genome.fa", unpack="gunzip")
    with pytest.raises(MissingResourceError, match=r"genome\.fa"):
        resolve({"fasta": "genome.fa.gz"})
    assert nothing_left(data)


def test_every_missing_input_is_in_one_message(
    site: Site, publish: Publish, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("ccres.bed", b"chr1")
    closed = Resource("the genome", f"http://127.0.0.1:{free_port()}/genome.fa", "genome.fa", "3 GB", "none")
    monkeypatch.setitem(RESOURCES, "genome", closed)
    (tmp_path / "genes.gtf.gz").touch()
    with pytest.raises(MissingResourceError) as caught:
        resolve(
            {"fasta": "genome", "gtf": "gencode", "tracks": "enformer-tracks", "ccres": "ccres.bed"},
            {"gtf": tmp_path / "genes.gtf", "tracks": tmp_path / "nowhere" / "targets.txt"},
        )
    message = str(caught.value)
    assert message.startswith("3 inputs are missing:")
    assert "genes.gtf: there is no such file" in message and "has genes.gtf.gz" in message
    assert f"there is no folder {tmp_path / 'nowhere'}" in message
    assert re.search(r"the genome, 3 GB: cannot connect to 127\.0\.0\.1:\d+", message)
    assert closed.url in message and str(data / "genome.fa") in message and "--fasta PATH" in message
    assert site.gets == [], "nothing is downloaded while something else is out of reach"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_failures_of_the_server_are_collected(publish: Publish, data: Path) -> None:
    publish("genome.fa", None)
    publish("genes.gtf", None)
    publish("ccres.bed", b"chr1")
    with pytest.raises(MissingResourceError, match="2 inputs are missing") as caught:
        resolve({"fasta": "genome.fa", "gtf": "genes.gtf", "ccres": "ccres.bed"})
    assert str(caught.value).count("answers 404 Not Found") == 2
    assert (data / "ccres.bed").read_bytes() == b"chr1", "what could be had is kept"


@pytest.mark.timeout(30)
def test_a_silent_host_costs_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PROBE_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        monkeypatch.setitem(RESOURCES, "x", Resource("x", url, "x", "1 kB", "none"))
        with pytest.raises(MissingResourceError, match="no answer within"):
            resolve({"fasta": "x"})


def test_what_is_got_by_hand_is_not_downloaded(site: Site, publish: Publish, data: Path) -> None:
    publish("page", b"<html>", unpack="by hand")
    with pytest.raises(MissingResourceError, match=rf"by hand\n +from +{site.url}/page\n.*\(a folder of them\)"):
        resolve({"weights": "page"})
    (data / "page").mkdir(parents=True)
    (data / "page/weights.ckpt").write_bytes(b"found by somebody")
    assert resolve({"weights": "page"}, offline=True) == {"weights": data / "page"}


def test_offline_asks_nobody(site: Site, publish: Publish) -> None:
    publish("genome.fa", GENOME)
    with pytest.raises(MissingResourceError, match=r"not downloaded \(--offline\)"):
        resolve({"fasta": "genome.fa"}, offline=True)
    assert site.gets == []


def test_only_https_leaves_the_machine(
    site: Site, publish: Publish, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RESOURCES, "x", Resource("x", "http://example.org/x", "x", "1 kB", "none"))
    with pytest.raises(MissingResourceError, match=r"http://example\.org/x is not https"):
        resolve({"fasta": "x"})
    publish("moved", None)
    site.redirects["/moved"] = "http://example.org/x"
    with pytest.raises(MissingResourceError, match=r"http://example\.org/x is not https"):
        resolve({"fasta": "moved"})
    assert nothing_left(data)


def test_redirects_are_followed(site: Site, publish: Publish) -> None:
    publish("moved", None)
    site.files["/new"] = GENOME
    site.redirects["/moved"] = f"{site.url}/new"
    assert resolve({"fasta": "moved"})["fasta"].read_bytes() == GENOME


def test_without_a_pinned_checksum_the_observed_one_holds(site: Site, publish: Publish, data: Path) -> None:
    publish("genes.gtf", b"first")
    path = resolve({"gtf": "genes.gtf"})["gtf"]
    entry = json.loads((data / "observed.json").read_text())["genes.gtf"]
    assert entry["download"] == entry["sha256"] == sha256(b"first")
    path.touch()  # another time stamp, the same bytes
    assert resolve({"gtf": "genes.gtf"}) == {"gtf": path}
    path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"genes\.gtf is not what was downloaded .* --gtf PATH"):
        resolve({"gtf": "genes.gtf"})
    path.unlink()
    site.files["/genes.gtf"] = b"second"
    with pytest.raises(MissingResourceError, match="the recorded one"):
        resolve({"gtf": "genes.gtf"})
    site.files["/genes.gtf"] = b"first"
    assert resolve({"gtf": "genes.gtf"})["gtf"].read_bytes() == b"first"


def test_files_put_there_by_hand(publish: Publish, data: Path) -> None:
    publish("genes.gtf", None)
    publish("tracks.txt", None, checksum=sha256(b"published"))
    data.mkdir()
    (data / "genes.gtf").write_bytes(b"mine")
    (data / "tracks.txt").write_bytes(b"mine")
    assert resolve({"gtf": "genes.gtf"}) == {"gtf": data / "genes.gtf"}
    with pytest.raises(InputError, match=r"tracks\.txt is not what was downloaded"):
        resolve({"tracks": "tracks.txt"})


def test_a_damaged_ledger_is_named(publish: Publish, data: Path) -> None:
    publish("genes.gtf", b"first")
    resolve({"gtf": "genes.gtf"})
    (data / "observed.json").write_text("{")
    with pytest.raises(InputError, match=r"observed\.json is damaged"):
        resolve({"gtf": "genes.gtf"})


def test_processes_that_download_at_once_record_all_of_it(data: Path) -> None:
    """Each of four records twenty files of its own, as fast as it can."""
    data.mkdir()
    body = """if True:
        import pathlib, sys
        from builders import fetch, ledger
        folder = pathlib.Path(sys.argv[1])
        for number in range(20):
            file = folder / f"{sys.argv[2]}-{number:02d}"
            file.touch()
            ledger.remember(folder, fetch.Resource("", "https://x.invalid", file.name, "", ""), file, None)
    """
    workers = [subprocess.Popen([sys.executable, "-c", body, data, str(number)], cwd=ROOT) for number in range(4)]
    assert [worker.wait(60) for worker in workers] == [0] * 4
    assert sorted(ledger.read(data)) == [f"{worker}-{number:02d}" for worker in range(4) for number in range(20)]


def test_given_files_are_used_as_they_are(site: Site, publish: Publish, tmp_path: Path) -> None:
    publish("genome.fa", GENOME)
    own = tmp_path / "own.fa"
    own.touch()
    assert resolve({"fasta": "genome.fa"}, {"fasta": own, "gtf": None}) == {"fasta": own}
    assert site.gets == []


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CHORUS_DATA_DIR")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert "chorus-store" in resources.data_dir().parts


def test_the_registry() -> None:
    assert {"hg38", "gencode", "ccres"} <= RESOURCES.keys()
    for resource in RESOURCES.values():
        assert resource.url.startswith("https://")
        assert resource.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", resource.checksum)
    assert len({resource.file_name for resource in RESOURCES.values()}) == len(RESOURCES)


@pytest.mark.shared
def test_the_pinned_track_table_is_the_real_one(shared: Path) -> None:
    table = gzip.decompress((shared / "data" / "tracks" / "enformer_targets_human.txt.gz").read_bytes())
    assert sha256(table) == RESOURCES["enformer-tracks"].checksum


@pytest.fixture
def wheel(publish: Publish) -> Resource:
    """A resource that is a file in the wheel of a package, which is not installed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data/weights.pb", b"weights")
    name = "model-1.0-py3-none-any.whl"
    return publish(name, buffer.getvalue(), "weights.pb", unpack="wheel", member="model/data/weights.pb")


def test_a_file_of_a_wheel(wheel: Resource, data: Path) -> None:
    with pytest.raises(MissingResourceError, match=r"weights\.pb \(model/data/weights\.pb of it\)\n.*model==1\.0\n"):
        resolve({"weights": wheel.title}, offline=True)
    assert resolve({"weights": wheel.title}) == {"weights": data / "weights.pb"}
    assert (data / "weights.pb").read_bytes() == b"weights"


def test_a_wheel_without_the_file(publish: Publish, wheel: Resource, site: Site, data: Path) -> None:
    publish(wheel.title, site.files[f"/{wheel.title}"], "weights.pb", unpack="wheel", member="elsewhere.pb")
    with pytest.raises(MissingResourceError, match=r"There is no item named 'elsewhere\.pb' in the archive"):
        resolve({"weights": wheel.title})
    assert nothing_left(data)


def test_the_file_of_an_installed_package(
    wheel: Resource, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site"
    monkeypatch.syspath_prepend(str(installed))
    with zipfile.ZipFile(io.BytesIO(site.files[f"/{wheel.title}"])) as archive:
        archive.extractall(installed)
    about = installed / "model-1.0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: model\nVersion: 1.0\n")
    file = installed / "model/data/weights.pb"
    assert resolve({"weights": wheel.title}, offline=True) == {"weights": file}
    assert resources_cli.run(["list", wheel.title]) == 0
    about.write_text(about.read_text().replace("1.0\n", "1.1\n"))
    with pytest.raises(MissingResourceError, match=r"pip install --no-deps model==1\.0"):
        resolve({"weights": wheel.title}, offline=True)


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, str]:
    """Name to state, as the command says."""
    assert resources_cli.run([*arguments, "--json"]) == code
    return {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)}


def test_the_command(site: Site, publish: Publish, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish("genes.gtf", b"genes")
    publish("genome.fa", b"genome", checksum=sha256(b"genome"))
    names = ("genes.gtf", "genome.fa")
    assert told(capsys, "list").keys() == RESOURCES.keys()
    assert told(capsys, "list", *names) == dict.fromkeys(names, "absent")
    assert told(capsys, "verify", "genes.gtf") == {"genes.gtf": "absent"}
    assert told(capsys, "fetch", "genes.gtf") == {"genes.gtf": "present"}
    (data / "genome.fa").write_bytes(b"genome")
    assert told(capsys, "fetch", *names) == dict.fromkeys(names, "present")
    assert site.gets == ["/genes.gtf"], "what is here is not downloaded"
    assert told(capsys, "verify", *names) == dict.fromkeys(names, "ok")
    for name in names:
        (data / name).write_bytes((data / name).read_bytes().upper())
        assert told(capsys, "verify", name, code=2) == {name: "changed"}
    assert resources_cli.run(["list", "genes.gtf"]) == 0
    assert capsys.readouterr().out.startswith("genes.gtf            present    genes.gtf (1 kB; none)\n")


def test_the_command_verifies_the_same_time_and_size(
    publish: Publish, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("genes.gtf", b"genes")
    told(capsys, "fetch", "genes.gtf")
    before = (data / "genes.gtf").stat()
    (data / "genes.gtf").write_bytes(b"GENES")
    os.utime(data / "genes.gtf", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert told(capsys, "verify", "genes.gtf", code=2) == {"genes.gtf": "changed"}


def test_files_put_there_by_hand_have_no_checksum(
    publish: Publish, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish("genes.gtf", b"genes")
    data.mkdir()
    (data / "genes.gtf").write_bytes(b"mine")
    assert told(capsys, "verify", "genes.gtf") == {"genes.gtf": "no checksum known"}


def test_the_command_says_what_cannot_be_had(publish: Publish, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish("genes.gtf", None)
    publish("genome.fa", b"genome")
    assert resources_cli.run(["fetch", "genes.gtf", "genome.fa"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: 1 of 2 resources are missing:\n  genes.gtf, 1 kB: ") and "404 Not Found" in said
    assert f"to    {data / 'genes.gtf'}" in said and (data / "genome.fa").exists()
    assert resources_cli.run(["verify", "genom.fa"]) == 2
    assert capsys.readouterr().err == "error: no resource 'genom.fa'; near matches: genome.fa\n"
