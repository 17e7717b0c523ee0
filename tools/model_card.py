"""Write the model card of the weights that come with atrac-codec, from the JSON beside them.

    python tools/model_card.py

A test holds the card to what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WEIGHTS = Path(__file__).parents[1] / "packages/atrac-codec/src/atrac_codec/weights"
ORDER = ("qmf", "transient", "mdct", "scaler", "allocator", "quantizer", "dequantizer", "imdct", "iqmf")
HEAD = """# Weights

Trained stages of atrac-codec. `ROLE-HASH.safetensors` holds the tensors, named by their SHA-256; `ROLE-HASH.json` says
where they come from: class and settings, data and licences, seed, curve, metrics, versions. `load_stage` reads them and
runs no stored code. Presets (`presets.py`) name them and share them:

- encoder and decoder `neural-stages` are the nine stages that imitate the reference codec;
- encoder `neural` takes its filter banks and its choice of block lengths (`NeuralEntropyTransient`) from here. What it
  decides bits by is not learned: the ear model's own numbers;
- decoder `neural` has a dequantizer that estimates the values before quantization.

The files of one preset take at most 3 MB, all at most 10 MB. `tests/test_presets.py` checks this. This card is written
by `tools/model_card.py`.

## Use

Encoding and decoding ATRAC1, and as a start for training. The files of all encoders are standard files. `neural-stages`
imitates an encoder and does not improve on it; decoder `neural` improves files of the reference codec and loses 0.5 to
2 dB of SNR on those of `rd` and `neural`.

## Training

Each stage was trained from random weights by one command on one CPU core (`OMP_NUM_THREADS=1`: with more threads sums
are added in another order, and the weights differ in their last bits). Seconds are those of the epochs, on a core that
did other work too. Shards of recordings are those of `python apps/extract.py FOLDER -o recordings` (to measure) and the
same with `--variants 3 --gain -40 0 --offset` (to train: `recordings-train`) or with
`--variants 3 --gain -15 0 --offset --fields pcm` (`recordings-pcm`). No other recordings than those below were trained
on; where the data is the built-in corpus, none were. The recordings measured on are in neither: they are split by
recording. The quantizer takes its table of scale factors from the trained scaler.

On another processor of the same kind (both x86-64 with AVX-512), the same commands wrote the same bytes for all stages
that are trained on the built-in corpus. Of those trained on recordings, the allocator and the dequantizer of original
values came out with other last bits and the same scores: torch's CPU kernels depend on the processor.
"""


def main() -> None:
    """Write the card."""
    (WEIGHTS / "README.md").write_text(text(), encoding="utf-8")


def text() -> str:
    """Return the card's text."""
    sheets = sorted(
        ((path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in WEIGHTS.glob("*.json")),
        key=lambda one: (ORDER.index(one[1]["role"]), one[1]["settings"].get("hidden", 0)),
    )
    return "\n".join([HEAD, *training(sheets), *scores(sheets), *recordings(sheets)])


def training(sheets: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the table of trainings."""
    lines = [
        "| file | command | data | frames of a channel | steps | seed | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, sheet in sheets:
        settings, data = sheet["training settings"], sheet["training data"]
        steps = len(sheet["curve"]) * settings["steps_per_epoch"]
        columns = (
            f"`{name}`", f"`{command(sheet)}`", kind(sheet), f"{data['frames']:,}", f"{steps:,}", sheet["seed"],
            f"{sheet['seconds']:.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, columns)) + " |")
    return [*lines, ""]


def command(sheet: dict[str, Any]) -> str:
    """Return the command that trained a stage, or the codec that it is a part of."""
    corrects = sheet["role"] == "dequantizer" and sheet["settings"]["hidden"]
    config = " --config packages/atrac-train/src/atrac_train/configs/dequantizer-original.yaml" if corrects else ""
    data = sheet["training settings"]["data"]
    folders = "".join(f" data.{key}={data[key]}" for key in ("shards", "evaluation") if data[key])
    if sheet["training settings"]["stage"] == "distil":
        return f"python apps/train_allocator.py{folders}"
    return f"python apps/train_stage.py stage={sheet['role']}{config}{folders}"


def kind(sheet: dict[str, Any]) -> str:
    """Return what a stage was trained on."""
    data = sheet["training settings"]["data"]
    return "recordings" if data["shards"] else f"built-in corpus: {', '.join(data['sounds']) or 'all sounds'}"


def scores(sheets: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the tables of what was reached on the test split."""
    lines = ["## What they reach", "", "On the recordings of the test split:", ""]
    for name, sheet in sheets:
        start = sheet["metrics"].get("start")
        columns = ["validation", "test"] if start is None else ["validation, before", "after", "test, before", "after"]
        lines += [f"`{name}`:", "", f"| score | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for score in sheet["metrics"]["test"]:
            if "loss" not in score:
                measured = []
                for split in ("validation", "test"):
                    measured += [start[split]] if start is not None else []
                    measured.append(sheet["metrics"][split])
                lines.append(f"| {score} | {' | '.join(number(one.get(score)) for one in measured)} |")
        lines.append("")
    return lines


def number(value: float | None) -> str:
    """Return a number with four digits that say something, or a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value == int(value) else f"{value:.2f}" if abs(value) >= 1 else f"{value:.4g}"


def recordings(sheets: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """Return the recordings that were trained on, by licence."""
    found: dict[str, set[str]] = {}
    for _, sheet in sheets:
        if sheet["training settings"]["data"]["shards"]:
            for licence, names in sheet["training data"]["recordings"].items():
                found.setdefault(licence, set()).update(names)
    lines = ["## Recordings that were trained on", ""]
    for licence, names in sorted(found.items()):
        shown = ", ".join(f"`{name}`" for name in sorted(names))
        lines.append(f"- {licence} ({len(names)}): {shown}")
    return [*lines, ""]


if __name__ == "__main__":
    main()
