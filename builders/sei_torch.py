"""Sei in PyTorch (Chen et al. 2022): the architecture, parameters named as in its checkpoint, and its backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from builders.oracle import Encoding, FloatArray
from chorus_store.errors import BackendUnavailableError, WeightsError
from chorus_store.sequence import Codes, one_hot_table

try:
    import torch
    from torch import nn

    from builders.checkpoints import State, check_state, file_of, install, random_state, read_state, shapes_of
    from builders.torch_runtime import TorchRuntime
except ImportError as error:
    raise BackendUnavailableError(f"Sei needs PyTorch ({error}); pip install 'chorus-store[sei]'") from error

LENGTH_BP = 4096
N_CLASSES = 40
#: Channels of the three stages.
WIDTHS = {"full": (480, 640, 960), "small": (12, 16, 24)}
PROJECTION = "projvec_targets.npy"
#: Of the checkpoint's names: the model inside its wrapper for several GPUs, inside its training module.
PREFIX = "module.model."
REMEDY = f"give the folder of sei.pth and {PROJECTION}, unpacked from sei_model.tar.gz of Zenodo 4906997 (--weights)"
_POOL = 4
_DILATIONS = (2, 4, 8, 16, 25)
_SPLINE_DF = 16
_COMPLEMENT = np.array([3, 2, 1, 0, 4], np.uint8)

Float64Array = npt.NDArray[np.float64]


class Sei(nn.Module):
    """Encoded sequences, (batch, channel, position), to probabilities of chromatin profiles, (batch, profile)."""

    def __init__(self, n_profiles: int, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third = widths
        self.lconv1 = nn.Sequential(_conv(4, first), _conv(first, first))
        self.conv1 = nn.Sequential(_conv(first, first), nn.ReLU(), _conv(first, first), nn.ReLU())
        self.lconv2 = _narrowed(first, second)
        self.conv2 = _rectified(second)
        self.lconv3 = _narrowed(second, third)
        self.conv3 = _rectified(third)
        for number, dilation in enumerate(_DILATIONS, start=1):
            dilated = nn.Conv1d(third, third, 5, padding=2 * dilation, dilation=dilation)
            self.add_module(f"dconv{number}", nn.Sequential(nn.Dropout(0.1), dilated, nn.ReLU()))
        self.classifier = nn.Sequential(
            nn.Linear(third * _SPLINE_DF, n_profiles), nn.ReLU(), nn.Linear(n_profiles, n_profiles), nn.Sigmoid()
        )

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Probabilities, (batch, profile)."""
        return self.profiles(self.features(encoded))

    def features(self, encoded: torch.Tensor) -> torch.Tensor:
        """What the convolutions find, (batch, channel, position / 16)."""
        linear = self.lconv1(encoded)
        linear = self.lconv2(self.conv1(linear) + linear)
        linear = self.lconv3(self.conv2(linear) + linear)
        found = self.conv3(linear)
        # The first dilated convolution sees the linear path too; what it adds to does not.
        found = found + self.dconv1(found + linear)
        for number in range(2, len(_DILATIONS) + 1):
            found = found + self.get_submodule(f"dconv{number}")(found)
        return found

    def profiles(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities from features, their positions summarised by splines."""
        basis = torch.tensor(spline_basis(features.shape[2], _SPLINE_DF), dtype=features.dtype, device=features.device)
        return self.classifier((features @ basis).flatten(1))


def _conv(before: int, after: int) -> nn.Conv1d:
    return nn.Conv1d(before, after, 9, padding=4)


def _narrowed(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool1d(_POOL), nn.Dropout(0.2), _conv(before, after), _conv(after, after))


def _rectified(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.2), _conv(width, width), nn.ReLU(), _conv(width, width), nn.ReLU())


def spline_basis(n: int, df: int, degree: int = 3) -> Float64Array:
    """B-splines with intercept on n evenly spaced points, knots evenly spaced, (n, df).

    By the recursion of de Boor (1978): a spline of one degree is two of the degree below, weighted linearly.

    Examples
    --------
    >>> spline_basis(5, 4)[[0, 2, 4]].round(3).tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.125, 0.375, 0.375, 0.125], [0.0, 0.0, 0.0, 1.0]]
    """
    x = np.linspace(0, 1, n)[:, None]
    knots = np.concatenate([np.zeros(degree), np.linspace(0, 1, df - degree + 1), np.ones(degree)])
    inside = (knots[:-1] <= x) & (x < knots[1:])
    inside[-1, df - 1] = True  # the last interval is closed
    basis = inside.astype(np.float64)
    for d in range(1, degree + 1):
        rising = _ratio(x - knots[: -d - 1], knots[d:-1] - knots[: -d - 1])
        falling = _ratio(knots[d + 1 :] - x, knots[d + 1 :] - knots[1:-d])
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis


def _ratio(above: Float64Array, below: Float64Array) -> Float64Array:
    """Quotient, 0 between knots that coincide."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def read_projection(path: Path, n_profiles: int) -> Float64Array:
    """Unit vectors of the sequence classes, (profile, class).

    Raises
    ------
    WeightsError
        The file cannot be read without pickle, or holds no vectors of this length.
    """
    try:
        vectors = np.load(path, allow_pickle=False)
        fits = vectors.ndim == 2 and len(vectors) >= N_CLASSES and vectors.shape[1] == n_profiles
        if not fits or not np.issubdtype(vectors.dtype, np.floating):
            raise WeightsError(
                f"{path} holds {vectors.dtype} of shape {vectors.shape} instead of vectors of {n_profiles:,} profiles "
                f"for {N_CLASSES} classes; {REMEDY}"
            )
        return unit_vectors(vectors)
    except (OSError, ValueError, EOFError) as error:
        raise WeightsError(f"{path} holds no usable vectors ({error}); {REMEDY}") from error


def unit_vectors(vectors: npt.NDArray[np.floating]) -> Float64Array:
    """The classes' vectors, each divided by its length, (profile, class)."""
    of_classes = vectors[:N_CLASSES].astype(np.float64)
    lengths = np.linalg.norm(of_classes, axis=1)
    if not (lengths > 0).all():  # neither zero nor NaN
        raise ValueError("a vector has no direction")
    directions: Float64Array = (of_classes / lengths[:, None]).T
    return directions


class TorchSei:
    """Backend of `builders.sei.Sei`.

    Parameters
    ----------
    n_profiles : int
    size : {"full", "small"}
    encoding : Encoding
    both_strands : bool
        Whether profiles are the mean over a sequence and its reverse complement.
    histones : sequence of int, or None
        Channels whose sum stands for nucleosome occupancy, where it is taken out of variant effects.
    """

    def __init__(
        self, n_profiles: int, size: str, encoding: Encoding, *, both_strands: bool, histones: Sequence[int] | None
    ) -> None:
        self._n_profiles = n_profiles
        self._size = size
        self._encoding = encoding
        self._both_strands = both_strands
        self._histones = histones

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """Build model and projection; see `Oracle.load`."""
        self._runtime = runtime = TorchRuntime(device, precision)
        with torch.device("meta"):
            model = Sei(self._n_profiles, WIDTHS[self._size])
        if weights is None:
            state = _random(shapes_of(model), seed)
            directions = unit_vectors(np.random.default_rng(seed).standard_normal((N_CLASSES, self._n_profiles)))
        else:
            folder = _folder(weights)
            directions = read_projection(folder / PROJECTION, self._n_profiles)
            state = read_state(folder, REMEDY, prefix=PREFIX)
            check_state(state, shapes_of(model), file_of(folder, REMEDY), REMEDY)
        install(model, state)
        self._model = runtime.place(model)
        self._one_hot = runtime.table(one_hot_table(self._encoding.order, self._encoding.unknown))
        self._directions = runtime.table(directions)
        self._histone_channels = None if self._histones is None else runtime.table(np.asarray(self._histones, np.int64))

    def facts(self, codes: Codes, *, with_profiles: bool, alleles: bool = False) -> FloatArray:
        """Class scores, and the profiles after them where they are wanted, (batch, track).

        ``alleles`` says that sequences are reference and alternate alleles in turn.
        """
        with self._runtime.inference(), self._runtime.arithmetic():
            profiles = self._profiles(codes)
            if self._both_strands:
                profiles = (profiles + self._profiles(_COMPLEMENT[codes[:, ::-1]])) / 2
            # In float64: a class is the sum of thousands of profiles, and an effect a small difference of two.
            exact = profiles.double()
            scores = exact @ self._directions
            if alleles and self._histone_channels is not None:
                scores += self._occupancy_taken_out(exact)
            columns = [scores.float(), profiles] if with_profiles else [scores.float()]
            facts: FloatArray = torch.cat(columns, dim=1).cpu().numpy()
        return facts

    def _profiles(self, codes: Codes) -> torch.Tensor:
        encoded = self._runtime.one_hot(codes, self._one_hot).transpose(1, 2)
        with self._runtime.autocast():
            features = self._model.features(encoded)
        # In float32: bf16 would swamp the effect of one base.
        return self._model.profiles(features.float())

    def _occupancy_taken_out(self, profiles: torch.Tensor) -> torch.Tensor:
        """What class scores change by when both alleles' histone profiles are scaled to the same sum, their mean."""
        histones = profiles[:, self._histone_channels]
        sums = histones.sum(dim=1)
        mean = sums.view(-1, 2).mean(dim=1).repeat_interleave(2)
        return (mean / sums - 1)[:, None] * (histones @ self._directions[self._histone_channels])


def _random(shapes: Mapping[str, torch.Size], seed: int) -> State:
    state = random_state(shapes, seed, gain=1.0)
    # A sum of many values of one sign: left as large as it is, it would saturate the sigmoid.
    state["classifier.2.weight"].mul_(0.03)
    return state


def _folder(weights: Path) -> Path:
    """The one folder below ``weights`` that holds the projection; archives wrap theirs in folders."""
    if not weights.exists():
        raise WeightsError(f"no weights at {weights}; {REMEDY}")
    folders = [path.parent for path in weights.rglob(PROJECTION)]
    if len(folders) != 1:
        raise WeightsError(f"{weights} holds {len(folders) or 'no'} {PROJECTION}; {REMEDY}")
    return folders[0]
