"""LegNet in PyTorch (Penzar et al. 2023): the architecture, parameters named as in its checkpoints, and its backend."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index
from pathlib import Path

import numpy as np

from builders.oracle import Encoding, FloatArray
from chorus_store.errors import BackendUnavailableError, WeightsError
from chorus_store.sequence import Codes, encode, one_hot_table

try:
    import torch
    from torch import nn
    from torch.nn import functional
    from torch.nn.utils import fusion

    from builders.checkpoints import check_state, install, random_state, read_state, shapes_of
    from builders.torch_runtime import TorchRuntime
except ImportError as error:
    raise BackendUnavailableError(f"LegNet needs PyTorch ({error}); pip install 'chorus-store[legnet]'") from error


#: With its flanks.
_SEQUENCE_BP = 230
#: Of channels, kernels and pools; far above those of any model.
_LARGEST_SIZE = 2**16


@dataclass(frozen=True)
class LegNetConfig:
    """What ``config.json`` says of the architecture; the rest of that file is about training.

    Attributes
    ----------
    stem_ch, stem_ks : int
        Channels and kernel width of the first convolution.
    ef_ks : int
        Kernel width of the others.
    ef_block_sizes, pool_sizes : tuple of int
        Channels after every block, and by how much the sequence is then shortened.
    resize_factor : int
        Channels inside a block per channel of its input.
    use_reverse_channel : bool
        Whether a fifth channel says that a sequence is reversed; it is 0 here, where none is.
    """

    stem_ch: int = 64
    stem_ks: int = 11
    ef_ks: int = 9
    ef_block_sizes: tuple[int, ...] = (80, 96, 112, 128)
    pool_sizes: tuple[int, ...] = (2, 2, 2, 2)
    resize_factor: int = 4
    use_reverse_channel: bool = False

    def __post_init__(self) -> None:
        widths = (self.stem_ch, self.stem_ks, self.ef_ks, self.resize_factor, *self.ef_block_sizes, *self.pool_sizes)
        if min(widths) < 1 or max(widths) > _LARGEST_SIZE:
            raise ValueError(f"sizes must be positive, and at most {_LARGEST_SIZE:,}")
        if not self.ef_block_sizes or len(self.ef_block_sizes) != len(self.pool_sizes):
            raise ValueError("there must be at least one block, and as many pools as blocks")
        if math.prod(self.pool_sizes) > _SEQUENCE_BP:
            raise ValueError(f"pools of {'×'.join(map(str, self.pool_sizes))} leave nothing of {_SEQUENCE_BP} bp")
        if not isinstance(self.use_reverse_channel, bool):
            raise ValueError(f"use_reverse_channel must be true or false, not {self.use_reverse_channel!r}")

    @property
    def in_ch(self) -> int:
        """Channels of the encoded sequence."""
        return 4 + self.use_reverse_channel

    @classmethod
    def read(cls, path: Path) -> LegNetConfig:
        """Read ``config.json``.

        Raises
        ------
        WeightsError
            The file cannot be read, is not JSON, or does not describe a LegNet.
        """
        try:
            found = json.loads(path.read_bytes())
            sizes = {name: tuple(map(index, found[name])) for name in ("ef_block_sizes", "pool_sizes")}
            return cls(
                stem_ch=index(found["stem_ch"]),
                stem_ks=index(found["stem_ks"]),
                ef_ks=index(found["ef_ks"]),
                resize_factor=index(found["resize_factor"]),
                use_reverse_channel=found.get("use_reverse_channel", False),
                **sizes,
            )
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise WeightsError(
                f"{path} is not the configuration of a LegNet ({reason}); take the config.json of the weights"
            ) from error


class LegNet(nn.Module):
    """One model: sequences to the activity of a regulatory element in one cell type."""

    def __init__(self, config: LegNetConfig) -> None:
        super().__init__()
        self.stem = _Local(config.in_ch, config.stem_ch, config.stem_ks)
        stages = []
        widths = pairwise((config.stem_ch, *config.ef_block_sizes))
        for (before, after), pool in zip(widths, config.pool_sizes, strict=True):
            both = _Concatenated(_Efficient(before, config.ef_ks, config.resize_factor))
            stages.append(nn.Sequential(both, _Local(2 * before, after, config.ef_ks), nn.MaxPool2d((1, pool))))
        self.main = nn.Sequential(*stages)
        last, hidden = config.ef_block_sizes[-1], 2 * config.ef_block_sizes[-1]
        self.mapper = _Block(nn.BatchNorm2d(last), _Conv(last, hidden, 1))
        self.head = nn.Sequential(nn.Linear(hidden, hidden), nn.BatchNorm1d(hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        """Encoded sequences, (batch, position, channel), to activities, (batch,)."""
        return self.activity(self.features(encoded))

    def features(self, encoded: torch.Tensor) -> torch.Tensor:
        """Mean over positions of what the convolutions find, (batch, feature)."""
        # As images of height 1 whose channels lie last in memory: the layout that convolves fastest on a CPU.
        images = encoded.permute(0, 2, 1).unsqueeze(2)
        return self.mapper(self.main(self.stem(images))).mean((2, 3))

    def activity(self, features: torch.Tensor) -> torch.Tensor:
        """Activities, (batch,)."""
        return self.head(features).squeeze(1)


class _Conv(nn.Conv1d):
    """A convolution over positions, of images of height 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.weight.unsqueeze(2), self.bias, padding="same", groups=self.groups)


class _Block(nn.Module):
    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.block = nn.Sequential(*parts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class _Local(_Block):
    def __init__(self, before: int, after: int, width: int) -> None:
        super().__init__(*_normalised(_Conv(before, after, width, bias=False)))


class _Efficient(_Block):
    """Widened, convolved channel by channel, channels weighed against each other, and narrowed again."""

    def __init__(self, channels: int, width: int, factor: int) -> None:
        inner = channels * factor
        super().__init__(
            *_normalised(_Conv(channels, inner, 1, bias=False)),
            *_normalised(_Conv(inner, inner, width, groups=inner, bias=False)),
            _SqueezeExcitation(inner, factor),
            *_normalised(_Conv(inner, channels, 1, bias=False)),
        )


class _SqueezeExcitation(nn.Module):
    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        squeezed = channels // factor
        self.fc = nn.Sequential(nn.Linear(channels, squeezed), nn.SiLU(), nn.Linear(squeezed, channels), nn.Sigmoid())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class _Concatenated(nn.Module):
    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.fn(x), x], dim=1)


def _normalised(conv: _Conv) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(conv.out_channels), nn.SiLU(inplace=True)]


def fold_normalisations(model: nn.Module) -> None:
    """Put each normalisation that follows a convolution into its weights: the same but for rounding, and faster."""
    for block in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for i, (first, second) in enumerate(pairwise(block)):
            if isinstance(first, _Conv) and isinstance(second, nn.BatchNorm2d):
                block[i], block[i + 1] = fusion.fuse_conv_bn_eval(first, second), nn.Identity()


class TorchLegNet:
    """Backend of `builders.legnet.LegNet`: one model per cell type, all over the same batch.

    Parameters
    ----------
    cell_types : sequence of str
    encoding : Encoding
    """

    def __init__(self, cell_types: Sequence[str], encoding: Encoding) -> None:
        self._cell_types = cell_types
        self._encoding = encoding
        self._flanks = encode(encoding.left_flank), encode(encoding.right_flank)

    def load(
        self,
        folders: Mapping[str, Path] | None,
        *,
        device: str,
        precision: str,
        seed: int,
        trusted: Collection[str],
        remedy: str,
    ) -> None:
        """Build the models; ``folders`` hold configuration and checkpoint by cell type, see `Oracle.load`."""
        self._runtime = TorchRuntime(device, precision)
        self._models = []
        for cell_type in self._cell_types:
            if folders is None:
                config = LegNetConfig()
                model = _on_meta(config)
                state = random_state(shapes_of(model), zlib.crc32(f"{cell_type} {seed}".encode()))
            else:
                folder = folders[cell_type]
                config = LegNetConfig.read(folder / "config.json")
                model = _on_meta(config)
                state = read_state(folder, remedy, prefix="model.", trusted=trusted)
                check_state(state, shapes_of(model), folder, remedy)
            install(model, state)
            fold_normalisations(model.eval())
            self._models.append((self._runtime.place(model), self._one_hot(config)))

    def facts(self, codes: Codes) -> FloatArray:
        """Activities, (batch, cell type)."""
        left, right = (np.broadcast_to(flank, (len(codes), len(flank))) for flank in self._flanks)
        whole = np.concatenate([left, codes, right], axis=1)
        runtime = self._runtime
        with runtime.inference(), runtime.arithmetic():
            activities = []
            for model, table in self._models:
                with runtime.autocast():
                    features = model.features(runtime.one_hot(whole, table))
                # In float32: bf16 would swamp the effect of one base.
                activities.append(model.activity(features.float()))
            facts: FloatArray = torch.stack(activities, dim=1).cpu().numpy()
        return facts

    def _one_hot(self, config: LegNetConfig) -> torch.Tensor:
        table = one_hot_table(self._encoding.order, self._encoding.unknown)
        return self._runtime.table(np.pad(table, ((0, 0), (0, config.in_ch - table.shape[1]))))


def _on_meta(config: LegNetConfig) -> LegNet:
    with torch.device("meta"):
        return LegNet(config)
