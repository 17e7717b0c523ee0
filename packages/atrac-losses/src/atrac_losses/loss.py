"""Any measure as a loss to minimise: one module for all of them."""

from collections.abc import Callable
from typing import Concatenate, Final, Generic, ParamSpec, final

import torch
from torch import Tensor, nn

from atrac_losses.reduction import Reduction
from atrac_losses.waveform import segmental_snr, si_sdr, snr

Options = ParamSpec("Options")

HIGHER_IS_BETTER: Final[tuple[Callable[..., Tensor], ...]] = (snr, si_sdr, segmental_snr)
"""Measures that `Loss` returns the negative of."""


@final
class Loss(nn.Module, Generic[Options]):
    """A measure as a loss to minimise: its value, or its negative where higher is better.

    Args:
        measure: a function of this package, or any other with the same first four arguments; not `stoi` and `pesq`,
            which have no gradient.
        reduction: "mean", "sum" or "none" over the batch.
        args, options: options of the measure.

    Raises:
        TypeError: the measure has no option of that name.
        ValueError: the reduction is unknown, or an option is outside its range.

    Example:
        >>> from atrac_losses import mel_distance
        >>> loss = Loss(mel_distance, n_mels=40)
        >>> loss(torch.ones(2, 4096), torch.ones(2, 4096))
        tensor(0.)
        >>> loss
        Loss(mel_distance, n_mels=40)
    """

    def __init__(
        self,
        measure: Callable[Concatenate[Tensor, Tensor, Tensor | None, Reduction, Options], Tensor],
        reduction: Reduction = "mean",
        *args: Options.args,
        **options: Options.kwargs,
    ) -> None:
        super().__init__()
        self.measure, self.reduction = measure, reduction
        self.args, self.options = args, options
        self(torch.zeros(1), torch.zeros(1))  # refuses wrong options now, not in the first step of a training

    def forward(self, estimate: Tensor, reference: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the loss: estimate, reference, mask [*, T] -> [] or [*]."""
        value = self.measure(estimate, reference, mask, self.reduction, *self.args, **self.options)
        return -value if self.measure in HIGHER_IS_BETTER else value

    def __repr__(self) -> str:
        name = getattr(self.measure, "__name__", repr(self.measure))
        options = [f"{option}={value!r}" for option, value in dict[str, object](**self.options).items()]
        return f"Loss({', '.join([name, *options])})"
