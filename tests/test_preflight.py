"""What stands in the way of a build is said before a model is loaded or a store made, and all of it at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest

from builders import cli, estimate, memory, requirements
from builders.options import parser_of
from builders.settings import Inputs, Settings
from chorus_store.budget import Sampler
from chorus_store.errors import DeviceMemoryError, InputError, StoreWriteError
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.publish import PublishOptions
from tests import tiny, tiny_models
from tests.disks import remount, tmpfs
from tests.npz_files import background, save
from tests.test_bad_input import rewrite


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return tiny.write_inputs(tmp_path / "inputs")


class Loaded(tiny.TinyOracle):
    """Counts how often it was loaded."""

    times: ClassVar[int] = 0

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        type(self).times += 1


def problems(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> list[str]:
    """What the command line says, problem by problem; it ends with exit code 2 and has loaded nothing."""
    capsys.readouterr()
    Loaded.times = 0
    assert cli.run(Loaded, arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message and not Loaded.times
    found = re.findall(r"^  - (.*)$", message, re.MULTILINE)
    if found:
        assert message.startswith(f"error: {len(found)} problems, and nothing has been begun:\n")
        return found
    assert message.startswith("error: ") and message.count("\n") == 1
    return [message.removeprefix("error: ").strip()]


def without_prefix(path: Path | None) -> None:
    assert path is not None
    rewrite(path, lambda text: text.replace("chr", ""))


def everything_wrong(inputs: Inputs, out: Path) -> list[str]:
    """A command line with six problems."""
    rewrite(inputs.fasta, lambda text: text + ">chr1\nACGT\n")
    without_prefix(inputs.gtf)
    assert inputs.ccres
    inputs.ccres.write_text("")
    save(out / "tiny_pertrack.npz", background(5313, 2), compressed=False)
    return tiny.arguments(inputs, out, "--memory", "1K", "--block", "1000000000", n_random=1_000_000_000)


def test_all_problems_are_said_at_once(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    arguments = everything_wrong(inputs, out)
    found = problems(capsys, arguments)
    wanted = (
        "out has .* free, and this build has yet to write 156.5 GiB there",
        "scoring .* takes .* of memory, and .* are available; use a lower --block",
        "compacting effect takes at least .* the budget is 0.0; raise --memory",
        r"tiny_pertrack\.npz has effect samples of 5,313 tracks",
        r"--ccres .*ccres\.bed is empty",
        r"genome\.fa is not hg38: chr1 has 4 bp instead of 248,956,422",
        r"ccres\.bed has no cCREs",
    )
    assert len(found) == len(wanted), found
    for pattern, problem in zip(wanted, found, strict=True):
        assert re.search(pattern, problem), (pattern, problem)
    assert [file.name for file in out.iterdir()] == ["tiny_pertrack.npz"], "nothing was made"
    capsys.readouterr()
    assert cli.run(Loaded, [*arguments, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == found, "a dry run says the same, and goes on"
    assert cli.run(Loaded, [*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("tiny: 7 tracks") and all(f"\n  problem    {problem}\n" in shown for problem in found)


def test_annotations_of_other_chromosomes(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without_prefix(inputs.gtf)
    without_prefix(inputs.ccres)
    genes, ccres = problems(capsys, tiny.arguments(inputs, tmp_path / "out"))
    assert "genes.gtf is about 19, 20, 21 and" in genes and "genome.fa has chr19, chr20, chr21" in genes
    assert "ccres.bed is about 19, 20, 21" in ccres and "(chr1 is not 1)" in ccres
    neither = ["--ccre", "all=0"]
    assert cli.run(Loaded, tiny.arguments(inputs, tmp_path / "out", *neither, n_tss=0, n_gene_bodies=0)) == 0


def test_a_genome_that_was_changed_since_the_plan(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.run(Loaded, tiny.arguments(inputs, out, "--part", "variants")) == 0
    kept = inputs.fasta.stat()
    swap = str.maketrans("ACGT", "CGTA")
    rewrite(inputs.fasta, lambda text: "\n".join(s if s[0] == ">" else s.translate(swap) for s in text.split()) + "\n")
    os.utime(inputs.fasta, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # so that the index is not made anew
    (found,) = problems(capsys, tiny.arguments(inputs, out))
    assert re.search(r"genome\.fa is not the genome of the plan of .*tiny\.zarr: chr\d+:\d+ is not [ACGT] there", found)


@pytest.mark.parametrize("make", [lambda path: path.write_bytes(b""), Path.mkdir])
def test_an_input_with_nothing_in_it(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object]
) -> None:
    weights = tmp_path / "weights"
    make(weights)
    (found,) = problems(capsys, tiny.arguments(inputs, tmp_path / "out", "--weights", str(weights)))
    assert f"--weights {weights} is empty" in found


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of the superuser, who may read and write everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_may_not_be_read_or_written(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"some")
    file.chmod(0)
    tmp_path.chmod(0o500)
    try:
        with as_nobody():
            with pytest.raises(InputError, match=r"--weights .*weights\.pt: Permission denied; check its permissions"):
                requirements.readable("weights", file)
            with pytest.raises(StoreWriteError, match=r"cannot write .*out: Permission denied; check that"):
                requirements.writable(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_without_access(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        inputs = tiny.write_inputs(folder / "inputs")
        Genome(inputs.fasta).close()  # which makes the index
        (folder / "out").mkdir(mode=0o700)
        (folder / "weights").mkdir(mode=0o700)
        with as_nobody():
            for arguments in (["--weights", str(folder / "weights/w.pt")], []):
                (found,) = problems(capsys, tiny.arguments(inputs, folder / "out", *arguments))
                assert "ermission" in found and str(folder) in found


def test_the_trial_in_a_folder_leaves_nothing(tmp_path: Path) -> None:
    requirements.writable(tmp_path / "not/yet/there")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreWriteError, match="Not a directory"):
        requirements.writable(tmp_path / "file/out")


def test_a_read_only_disk(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tmpfs(tmp_path / "disk", "64m") as disk:
        arguments = tiny.arguments(inputs, disk / "out")
        assert cli.run(Loaded, [*arguments, "--part", "variants"]) == 0
        remount(disk, "ro")
        (found,) = problems(capsys, arguments)
        assert "Read-only file system" in found
        remount(disk, "rw")
        assert cli.run(Loaded, arguments) == 0


def test_only_what_is_left_must_fit(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk too small for the whole build is enough for its last part."""
    with tmpfs(tmp_path / "disk", "64m") as disk:
        arguments = tiny.arguments(inputs, disk / "out", n_random=3000)
        assert cli.run(Loaded, [*arguments, "--part", "baselines"]) == 0
        used = shutil.disk_usage(disk).used // 1024 + 1
        remount(disk, f"size={used + 300}k")
        (found,) = problems(capsys, arguments)
        assert re.search(r"0\.3 MiB free, and this build has yet to write 1\.2 MiB there", found)
        assert cli.run(Loaded, [*arguments, "--part", "variants"]) == 0
        remount(disk, f"size={used + 1800}k")
        assert cli.run(Loaded, arguments) == 0


def written(inputs: Inputs, out: Path, **options: object) -> int:
    """Bytes that a build would still write."""
    args = parser_of(tiny.TinyOracle).parse_args(tiny.arguments(inputs, out))
    settings = cli.settings_of(tiny.TinyOracle, args)
    publish = PublishOptions(**{**settings.publish.__dict__, **options})
    settings = Settings(**{**settings.__dict__, "publish": publish})
    workload = tiny.TinyOracle.workload(args)
    report = estimate.describe(tiny.TinyOracle, workload, settings, ("variants", "baselines"), True)
    return int(report["written_bytes"])


def test_the_bytes_to_write_are_those_that_are_written(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    of_facts = {"variants": 4 * 7 * 30 * 2, "baselines": 4 * 7 * (24 + 16 + 6 + 4) * (1 + 5)}
    of_background, of_npz = int(3 * 7 * 10_000 * 2.2), int(3 * 7 * 10_000 * 3.7)
    whole = sum(of_facts.values()) + of_background + of_npz
    assert written(inputs, out) == whole
    thinned = Sampler("algorithm-r", 20)
    assert written(inputs, out, sampler=thinned) == whole, "a reservoir of 7 × 20 values is smaller than the NPZ"
    assert written(inputs, out, sampler=Sampler("algorithm-r", 29)) == whole
    assert cli.run(Loaded, tiny.arguments(inputs, out, "--part", "variants")) == 0
    assert written(inputs, out) == whole - of_facts["variants"]
    assert cli.run(Loaded, tiny.arguments(inputs, out)) == 0
    assert written(inputs, out) == 0
    shards = [file.stat().st_size for file in (out / "tiny.zarr/samples").rglob("c/*/*")]
    assert sum(of_facts.values()) <= sum(shards) < 1.2 * sum(of_facts.values()), "and checksums, and where chunks are"
    assert written(inputs, out, sampler=thinned) == of_background + of_npz
    (out / "tiny_pertrack.npz").unlink()
    assert written(inputs, out) == of_npz
    store = FactStore(out / "tiny.zarr")
    store.forget(store.units("variants")[0])
    assert written(inputs, out) == of_facts["variants"] + of_background + of_npz


def group(folder: Path, **files: str) -> None:
    """A control group with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_control_groups_limit_memory(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    unlimited = memory.available(membership, tmp_path)
    assert 0.5 < unlimited / psutil.virtual_memory().available < 2
    membership.write_text("0::/user/job\n")
    stat = "anon 1\ninactive_file 300\n"
    group(tmp_path / "user/job", memory__max="max\n", memory__current="900\n", memory__stat=stat)
    assert memory.available(membership, tmp_path) > 10_000
    group(tmp_path / "user", memory__max="1000\n", memory__current="900\n", memory__stat=stat)
    assert memory.available(membership, tmp_path) == 400, "what holds the job counts too, and cache is no use of memory"
    group(tmp_path / "user/job", memory__max="100\n", memory__current="900\n")
    assert memory.available(membership, tmp_path) == 0


def test_control_groups_of_version_1_and_of_containers(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("9:cpu:/docker/1\n4:memory:/docker/1\n0::/\n")
    limit = {"memory__limit_in_bytes": "5000\n", "memory__usage_in_bytes": "1000\n", "memory__stat": ""}
    group(tmp_path / "memory", **limit)  # a container sees its own group at the top
    assert memory.available(membership, tmp_path) == 4000
    group(tmp_path / "memory/docker/1", **{**limit, "memory__limit_in_bytes": "3000\n"})
    assert memory.available(membership, tmp_path) == 2000


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets what the driver's program does, in a shell: a stand-in, because there need be no GPU."""
    program = tmp_path / "bin/nvidia-smi"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def does(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return does


@pytest.mark.parametrize(("visible", "device", "asked"), [(None, "cuda:1", "1"), ("GPU-7,3", "cuda:0", "GPU-7")])
def test_weights_that_the_gpu_has_no_room_for(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    driver: Callable[[str], None], visible: str | None, device: str, asked: str,
) -> None:  # fmt: skip
    """There is no memory left on the GPU that is asked for."""
    driver(f'[ "$1" = "--id={asked}" ] && echo 1 || echo 80000')
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    weights = tmp_path / "weights.pt"
    weights.write_bytes(bytes(3 * 2**20))
    arguments = tiny.arguments(inputs, tmp_path / "out", "--weights", str(weights), "--device", device)
    (found,) = problems(capsys, arguments)
    assert f"{device} has 1.0 MiB of memory free and the weights alone take 3.0 MiB" in found
    driver("echo '[N/A]'")
    assert cli.run(Loaded, arguments) == 0, "what is not known is no problem"


def test_of_models_that_run_one_at_a_time_the_largest_must_fit(tmp_path: Path, driver: Callable[[str], None]) -> None:
    driver("echo 2")
    for number in range(4):
        (tmp_path / f"{number}.h5").write_bytes(bytes(2**20))
    requirements.gpu_memory(tiny_models.TinyModels, tmp_path, "cuda:0")
    with pytest.raises(DeviceMemoryError, match=r"2\.0 MiB of memory free and the weights alone take 4\.0 MiB"):
        requirements.gpu_memory(tiny.TinyOracle, tmp_path, "cuda:0")
    (tmp_path / "9.h5").write_bytes(bytes(3 * 2**20))
    with pytest.raises(DeviceMemoryError, match=r"the largest model alone takes 3\.0 MiB; take another GPU"):
        requirements.gpu_memory(tiny_models.TinyModels, tmp_path, "cuda:0")


def test_a_dry_run_names_a_file_that_is_not_there(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny.arguments(Inputs(tmp_path / "no.fa", inputs.gtf, inputs.ccres), tmp_path / "out", "--dry-run")
    assert cli.run(Loaded, arguments) == 0
    assert "no.fa: there is no such file" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_batch_that_memory_does_not_hold(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = tiny.arguments(inputs, out, "--batch", "10_000_000_000")
    (found,) = problems(capsys, arguments)
    wanted = 6 * 10**10 * 2048 / 2**30
    assert f"takes {wanted:,.1f} GiB of memory" in found and "use a lower --block or --batch" in found
    assert cli.run(Loaded, [*arguments, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == [found]
    assert not out.exists()
    assert cli.run(Loaded, tiny.arguments(inputs, out)) == 0


def test_rows_of_the_plan_are_compared_evenly(inputs: Inputs, tmp_path: Path) -> None:
    """Few seeks, however many variants there are."""
    out = tmp_path / "out"
    assert cli.run(Loaded, tiny.arguments(inputs, out, "--part", "variants", n_variants=3000)) == 0
    reads: list[int] = []

    class Counted(Genome):
        def fetch(self, chrom: str, start: int, end: int) -> np.ndarray:
            reads.append(start)
            return super().fetch(chrom, start, end)

    requirements.reference_bases(out / "tiny.zarr", Counted(inputs.fasta))
    assert len(reads) == 256
