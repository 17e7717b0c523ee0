"""Allocator: imitates the teacher's word lengths as an ordinal regression with two hidden levels per sound unit.

Which level the teacher's bisection took off what all BFUs want is not in the data, nor how long its spare bits lasted.
Both are hidden: training sums over them. A word length is then likely if its BFU's importance less the level lies
between it and the next, or one less if the BFU's turn came while there were spare bits, or nothing if the BFU is
likely inaudible. The widths of these decisions narrow while training goes on.

Likelihood leaves two things open. What each rule adds to all BFUs alike is taken off again by the level; the bisection
starts from fixed places, though, and the teacher stops it early, so two sums decide which of several allocations that
fit is found. And a BFU whose turn comes nearly always looks like one that wants a bit more. No gradient shows either;
`calibrate` tries them out and keeps what agrees with the teacher most often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from atrac_bitstream.tables import BFU_AMOUNTS, IDWL_MAX, N_BFU_MAX
from atrac_modules import BfuLayout, NeuralAllocator, used_value_bits, value_bits
from atrac_modules.water_filling import RANK_LIMIT, allocate
from atrac_train.objective import Objective, Scores, Tensors

LEVELS: Final = (torch.arange(-12.0, 22.0), torch.arange(-1.0, 1.01, 0.125), torch.linspace(-0.12, 0.12, 5))
"""Where the level is sought: on the whole, around the best, and around the best of these."""
SPARE: Final = torch.linspace(0, 1, 9)
"""How far the turns come."""
WIDTHS: Final = {"level": (1.0, 0.03), "audible": (6.0, 0.2), "turn": (0.3, 0.03)}
"""Width of each decision at the start and the end of training: bits, log2 of energy, turns."""
OUTLIERS: Final = 1e-3
"""Share of word lengths that nothing here explains."""
SEARCHES: Final = ((10.0, 0.25, 20), (0.25, 0.0625, 2))
"""Reach and pace in bits with which calibration looks for what each rule adds, and of how many units it takes one."""
WORTH: Final = 2e-4
"""Share of word lengths that must agree more for a change to be made."""
CALIBRATED: Final = 3000
"""Sound units at most that calibration looks at."""


class AllocatorObjective(Objective):
    """spectrum, idsf, bsm, loudness -> n_bfu, idwl.

    Args:
        boosts: what a BFU's turn costs, so that none is thought to come that need not.
        silences: what it costs to take a BFU for inaudible, for the same purpose.
        roughness: what differences between neighbours in the tables cost, so that none drifts that seldom gets bits.
        steps: training steps over which the decisions narrow.
    """

    fields = ("spectrum", "idsf", "bsm", "loudness", "n_bfu", "idwl")
    frames: int = 1
    progress: Tensor

    def __init__(
        self,
        model: dict[str, Any],
        boosts: float = 0.3,
        silences: float = 0.02,
        roughness: float = 0.002,
        steps: int = 4000,
    ) -> None:
        super().__init__()
        self.boosts, self.silences, self.roughness, self.steps = boosts, silences, roughness, steps
        self.stage, self.layout = NeuralAllocator(**model), BfuLayout()
        self.register_buffer("progress", torch.zeros(()))

    def example(self, batch: Tensors, generator: torch.Generator) -> Tensors:
        spectrum = batch["spectrum"].flatten(0, -2)
        example = {name: batch[name].flatten(0, 1).to(spectrum) for name in self.fields if name != "spectrum"}
        example["short"] = self.layout.bsm_of_bfu(example["bsm"]) > 0
        example["energy"] = self.layout.maximum(spectrum, example["bsm"]).square()
        return example | {"spectrum": spectrum}

    def forward(self, example: Tensors) -> dict[str, Tensor]:
        if self.training:
            self.progress += 1 / self.steps
        widths = {name: self._width(*ends) for name, ends in WIDTHS.items()}
        with torch.no_grad():
            best = torch.zeros_like(example["loudness"]).unsqueeze(-1)
            for levels in LEVELS[:2]:
                tried = best + levels.to(best)
                likelihood = self._likelihood(example, tried, widths).amax(-1)
                best = tried.gather(1, likelihood.argmax(-1, keepdim=True))
        likelihood = self._likelihood(example, best + LEVELS[2].to(best), widths)
        fit = -torch.logsumexp(likelihood.flatten(1), -1).mean() / N_BFU_MAX
        boosts = torch.sigmoid((SPARE.to(best)[:, None] - self.stage.spare_rank) / widths["turn"]).mean()
        audibility = self.stage.audibility(example["energy"], example["loudness"])
        silences = torch.sigmoid(-audibility / widths["audible"]).mean()
        rough = self.stage.tables.diff(dim=-1).square().sum(-1).mean()
        costs = self.boosts * boosts + self.silences * silences + self.roughness * rough
        return {"loss": fit + costs, "fit": fit}

    def _width(self, first: float, last: float) -> float:
        """Return a width of this moment of training; evaluation is at the last one, so that epochs compare."""
        progress = min(float(self.progress), 1.0) if self.training else 1.0
        return float(first * (last / first) ** progress)

    def _likelihood(self, example: Tensors, levels: Tensor, widths: dict[str, float]) -> Tensor:
        """Return the logarithm of how likely the teacher's word lengths are. Shape: levels [U, L] -> [U, L, S]."""
        idwl = example["idwl"]
        above = self.stage.desired(example["idsf"], example["short"])[:, None] - levels[..., None]
        audibility = self.stage.audibility(example["energy"], example["loudness"]) / widths["audible"]
        audible = torch.sigmoid(audibility.where(~example["short"], math.inf))[:, None]

        def at_least(index: Tensor) -> Tensor:
            reached = torch.sigmoid((above - (index + 1)[:, None]) / widths["level"])
            return torch.where((index > 0)[:, None], reached, 1.0)

        def is_index(index: Tensor) -> Tensor:
            more = torch.where((index < IDWL_MAX)[:, None], at_least(index + 1), 0.0)
            of_audible = torch.where((index >= 0)[:, None], at_least(index) - more, 0.0)
            return audible * of_audible + (1 - audible) * (index == 0)[:, None]

        boosted = torch.sigmoid((SPARE.to(levels)[:, None] - self.stage.spare_rank) / widths["turn"])
        likely = is_index(idwl)[:, :, None] * (1 - boosted) + is_index(idwl - 1)[:, :, None] * boosted
        likely = (1 - OUTLIERS) * likely + OUTLIERS / (IDWL_MAX + 1)
        # BFUs that are not carried count as well: they would be, had they got bits.
        return likely.log().sum(-1)

    @torch.no_grad()
    def calibrate(self, examples: Sequence[Tensors]) -> None:
        """Find what each rule adds to all BFUs, and in which order turns come, by agreement on a sample of units."""
        step = -(-sum(len(example["idsf"]) for example in examples) // CALIBRATED)
        units = {name: torch.cat([example[name] for example in examples])[::step] for name in examples[0]}
        for reach, pace, every in SEARCHES:
            self._add(units, reach, pace, every)
        for by_frequency, every in ((True, 3), (False, 3), (False, 1)):
            self._reorder(units, by_frequency, every)
            self._add(units, 0.0625, 0.02)

    def _reorder(self, units: Tensors, by_frequency: bool, every: int) -> None:
        """Change turns, always what helps most, until nothing does.

        Args:
            units: what agreement is measured on.
            by_frequency: begin with the BFUs in order and keep them so; fewer orders, and one of the likely ones.
            every: of how many units to take one.
        """
        tables, order, most = self.stage.tables.clone(), self.stage.spare_order, 0.0
        while True:
            changes = [(tables, order), *(one for bfu in range(N_BFU_MAX) for one in _moved(tables, order, bfu))]
            if by_frequency:
                changes = [(changed, sorted(turns)) for changed, turns in changes]
            reached = []
            for changed, turns in changes:
                self.stage.tables.copy_(changed)
                reached.append(float(self._agreement(units, turns, torch.zeros(1, 2), every)))
            if max(reached) < most + WORTH:
                break
            most = max(reached)
            tables, order = changes[reached.index(most)]
        self.stage.tables.copy_(tables)
        self.stage.spare_rank.fill_(2 * RANK_LIMIT)
        self.stage.spare_rank[order] = torch.linspace(0, 1, len(order)).to(self.stage.spare_rank)

    def _add(self, units: Tensors, reach: float, pace: float, every: int = 1) -> None:
        """Add to the tables of each rule what agrees most often."""
        offsets = torch.arange(-reach, reach + pace / 2, pace)
        pairs = torch.cartesian_prod(offsets, offsets)
        reached = torch.cat(
            [self._agreement(units, self.stage.spare_order, some, every) for some in torch.split(pairs, 64)]
        )
        self.stage.tables.add_(pairs[reached.argmax()].to(self.stage.tables)[:, None, None])

    def _agreement(self, units: Tensors, order: list[int], added: Tensor, every: int) -> Tensor:
        """Return the share of word lengths that agree with something added to each rule. Shape: added [K, 2] -> [K]."""
        idsf, short, idwl = (units[name][::every] for name in ("idsf", "short", "idwl"))
        audible = (self.stage.audibility(units["energy"][::every], units["loudness"][::every]) > 0) | short
        share = self.stage.mixture(idsf)
        first, second = added.to(share).T[:, :, None, None]
        wanted = self.stage.desired(idsf, short) + first * share + second * (1 - share)
        _, own = allocate(wanted.double().where(audible, -torch.inf), order)
        same, counted = _agreement(own, idwl, 0)
        return same.flatten(1).sum(-1) / counted.flatten(1).sum(-1)

    def measure(self, example: Tensors) -> dict[str, Tensor]:
        answer = self.stage(example["spectrum"], example["idsf"], example["bsm"], example["loudness"])
        sums = {}
        for name, within in (("equal", 0), ("within one", 1)):
            same, counted = _agreement(answer.idwl, example["idwl"], within)
            sums[name], sums["word lengths"] = same.sum().double(), counted.sum().double()
        sums["amount equal"] = (answer.n_bfu == example["n_bfu"]).sum().double()
        over = used_value_bits(answer.idwl) > value_bits(answer.n_bfu)
        sums["over budget"] = over.sum().double()
        by_index = torch.nn.functional.one_hot(example["idwl"].long(), IDWL_MAX + 1)
        sums["histogram"] = by_index.sum(0).double()
        amounts = torch.tensor(BFU_AMOUNTS, device=over.device)
        sums["amounts"] = (example["n_bfu"][:, None] == amounts).sum(0).double()
        return sums

    def scores(self, sums: Tensors) -> Scores:
        histogram, units = sums["histogram"], sums["amounts"].sum()
        index = torch.arange(IDWL_MAX + 1).to(histogram)
        mean = ((histogram * index).sum(-1) / units).round()
        counted = units - torch.where(mean == 0, histogram[:, 0], 0.0)
        baseline = {}
        for name, within in (("equal", 0), ("within one", 1)):
            near = (index - mean[:, None]).abs() <= within
            near &= (mean[:, None] > 0) | (index > 0)
            baseline[name] = float(100 * (histogram * near).sum() / counted.sum())
        return {
            "word lengths equal (%)": float(100 * sums["equal"] / sums["word lengths"]),
            "word lengths within one (%)": float(100 * sums["within one"] / sums["word lengths"]),
            "BFU amount equal (%)": float(100 * sums["amount equal"] / units),
            "units over budget": float(sums["over budget"]),
            "baseline, mean word length per BFU: equal (%)": baseline["equal"],
            "baseline, mean word length per BFU: within one (%)": baseline["within one"],
            "baseline, most frequent amount: equal (%)": float(100 * sums["amounts"].max() / units),
        }


def _agreement(idwl: Tensor, teacher: Tensor, within: int) -> tuple[Tensor, Tensor]:
    """Tell where word lengths agree, and where they count: where either has bits."""
    counted = (idwl > 0) | (teacher > 0)
    return ((idwl - teacher).abs() <= within) & counted, counted


def _moved(tables: Tensor, order: list[int], bfu: int) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield orders in which a BFU's turn never comes, or comes first, last, sooner or later; also if it wants less."""
    less = tables.clone()
    less[..., bfu] -= 1
    others = [one for one in order if one != bfu]
    yield tables, others
    near = {order.index(bfu) - 1, order.index(bfu), order.index(bfu) + 1} if bfu in order else set()
    for place in sorted({0, len(others)} | {place for place in near if 0 <= place <= len(others)}):
        moved = [*others[:place], bfu, *others[place:]]
        yield tables, moved
        yield less, moved
