"""Write docs/results.md from the JSON files that the commands wrote.

    python tools/results.py [NAME=FILE …]

NAME=FILE takes in a new result first: its numbers, without paths and single recordings, become docs/results/NAME.json.
A test holds the document to what this writes.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs/results"
WEIGHTS = ROOT / "packages/atrac-codec/src/atrac_codec/weights"
SCORES = {
    "NMR (dB)": 2, "ODG advanced": 3, "ODG basic": 3, "disturbed (%)": 1, "LSD to 16 kHz (dB)": 2, "SNR (dB)": 1,
    "pre-echo (dB)": 1,
}  # fmt: skip
"""Scores of an evaluation to the digits that are shown."""
STAGES = {
    "qmf": ("SNR recordings (dB)", "SNR noise (dB)"),
    "transient": ("F1 low", "F1 mid", "F1 high"),
    "mdct": ("SNR recordings (dB)", "SNR noise (dB)"),
    "scaler": ("IDSF equal (%)",),
    "allocator": ("word lengths equal (%)", "word lengths within one (%)", "units over budget"),
    "quantizer": ("equal where there are bits (%)",),
    "dequantizer": ("SNR to the standard values (dB)",),
    "imdct": ("SNR recordings (dB)", "SNR noise (dB)"),
    "iqmf": ("SNR recordings (dB)", "SNR noise (dB)"),
}
"""Role to scores of the stage that imitates the teacher."""


def take(name: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of the JSON that a command wrote."""
    if "summary" in content:  # apps/evaluate.py
        kept = {
            "recordings": len(content["recordings"]),
            "versions": content["settings"]["versions"],
            "kinds": {item["kind"]: 0 for item in content["recordings"]},
            "rows": {},
        }
        for item in content["recordings"]:
            kept["kinds"][item["kind"]] += 1
        for one in content["summary"]:
            label = f"{one['encoder']} > {one['decoder']}"
            value = [round(one["value"][key], 4) for key in ("mean", "low", "high")]
            row = kept["rows"].setdefault(label, {}).setdefault(one["kind"], {})
            row[one["score"]] = {"value": value, "better": len(one["better"]), "worse": len(one["worse"])}
        return kept
    if "original" in content:  # apps/compare_stages.py
        return {**content, "original": content["original"]["mean"]}
    if "benchmarks" in content:  # nox -s bench -- --benchmark-json=FILE
        ratio = "speed of the peer = 1"
        return {one["name"]: one["extra_info"][ratio] for one in content["benchmarks"] if ratio in one["extra_info"]}
    return content


def read(name: str) -> dict[str, Any]:
    """Return a result that was taken in."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" * len(head) + "|"
    yield from ("| " + " | ".join(row) + " |" for row in rows)
    yield ""


def evaluation(name: str, by: int) -> Iterator[str]:
    """Yield the table of an evaluation; rows are named by encoder (0) or decoder (1)."""
    content = read(name)
    shown = [score for score in SCORES if any(score in row["all"] for row in content["rows"].values())]

    def rows() -> Iterator[Sequence[str]]:
        for place, (label, row) in enumerate(content["rows"].items()):
            cells = []
            for score in shown:
                one, digits = row["all"][score], SCORES[score]
                worse = f" ({one['worse']})" if place else ""
                cells.append(f"{one['value'][0]:.{digits}f}{worse}")
            yield [f"`{label.split(' > ')[by]}`", *cells]

    yield from table([("encoder", "decoder")[by], *shown], rows())


def kinds(name: str, score: str) -> Iterator[str]:
    """Yield the table of a score by kind of content."""
    content = read(name)
    names = {label: label.split(" > ")[0] for label in content["rows"]}

    def rows() -> Iterator[Sequence[str]]:
        for kind, count in sorted(content["kinds"].items()):
            found = [content["rows"][label].get(kind, {}).get(score) for label in names]
            yield [f"{kind} ({count})", *(f"{one['value'][0]:.2f}" if one else "–" for one in found)]

    yield from table([f"{score} by kind", *(f"`{one}`" for one in names.values())], rows())


def stages() -> Iterator[str]:
    """Yield the table of the learned stages of `neural-stages`, by the sheets beside their weights."""
    sheets = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(WEIGHTS.glob("*.json"))]
    chain = read("stages")["fields"]

    def rows() -> Iterator[Sequence[str]]:
        for role, names in STAGES.items():
            sheet = next(s for s in sheets if s["role"] == role and not s["settings"].get("hidden"))
            reached = sheet["metrics"]["test"]
            yield [role, "; ".join(f"{name} {reached[name]:.6g}" for name in names)]

    yield from table(["stage", "reached on the recordings of the test split"], rows())
    yield from compared(chain)


def compared(chain: dict[str, Any]) -> Iterator[str]:
    """Yield the table of the fields of the chain."""

    def cell(parts: dict[str, Any] | None) -> str:
        if parts is None:
            return "–"
        part = next(name for name in reversed(list(parts)) if name != "short blocks")
        measure = next(name for name in parts[part] if name != "values")
        words = "" if part == "all" else f", {part}"
        value = parts[part][measure]
        shown = "equal" if value is None else percent(value) if "%" in measure else f"{value:.1f} dB"
        return shown + words

    shown = {field: own for field, own in chain.items() if field not in ("loudness", "sent_idsf")}
    rows = ([field, cell(own.get("alone")), cell(own.get("chained"))] for field, own in shown.items())
    yield from table(["field", "each stage alone", "chained"], rows)


def bitexact() -> Iterator[str]:
    """Yield the table of what equals pytrac's; where whole units are equal, their fields are."""
    counts = {
        name: count
        for name, count in read("pytrac").items()
        if "word lengths equal" not in name and ("units" in name or name.startswith(("reference:", "decoder")))
    }
    rows = ([name, f"{equal:,}", f"{total:,}", percent(100 * equal / total)] for name, (equal, total) in counts.items())
    yield from table(["", "equal", "of", ""], rows)


def percent(share: float) -> str:
    """Return a share in %, which reads 100 only if nothing differs."""
    return "100 %" if share == 100 else f"{math.floor(share * 1e4) / 1e4:.4f} %"


def decoders() -> Iterator[str]:
    """Yield the table of outside decoders."""
    content = read("decoders")
    presets = ", ".join(f"`{one}`" for one in content["presets"])
    units = f"{content['sound units']:,} sound units, {content['sound units over budget']} over budget"
    yield f"{content['files']:,} files of {presets}, {units}."
    yield ""
    rows = (
        [name, f"{one['whole']:,}", f"{one['largest difference']:.1e}"] for name, one in content["decoders"].items()
    )
    yield from table(["decoder", "files played whole", "largest difference to ours"], rows)


def memory() -> Iterator[str]:
    """Yield the table of memory."""
    rows = (
        [f"{row['work']} `{row['name']}`", f"{row['seconds']:,} s", f"{row['MiB']:.0f} MiB", f"{row['speed']:.0f} x"]
        for row in read("memory")["rows"]
    )
    yield from table(["", "length", "peak", "real time"], rows)


def speed() -> Iterator[str]:
    """Yield the table of speeds, without those of the stages that only imitate."""
    named = {name.removeprefix("test_").replace("_", " "): ratio for name, ratio in read("speed").items()}
    rows = ([name, f"{ratio:.2f}"] for name, ratio in named.items() if "neural-stages" not in name)
    yield from table(["", "FFmpeg decoding the same = 1"], rows)


def watermark() -> Iterator[str]:
    """Yield the table of the watermark example."""
    content = read("watermark")
    head = list(next(iter(content.values())))
    rows = (
        [title, *(f"{value:.1f}" if "dB" in name else f"{100 * value:.1f} %" for name, value in row.items())]
        for title, row in content.items()
    )
    yield from table(["bits read right", *head], rows)


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "bitexact": bitexact,
    "decoders": decoders,
    "encoders": lambda: evaluation("encoders", 0),
    "kinds": lambda: kinds("encoders", "NMR (dB)"),
    "neural decoder on bitexact": lambda: evaluation("neural-decoder-on-bitexact", 1),
    "neural decoder on neural": lambda: evaluation("neural-decoder-on-neural", 1),
    "stages": stages,
    "watermark": watermark,
    "memory": memory,
    "speed": speed,
}
"""Name of a place in docs/results/template.md to what stands there."""


def text() -> str:
    """Return the document."""
    lines = []
    for line in (RESULTS / "template.md").read_text(encoding="utf-8").splitlines():
        part = PARTS.get(line.removeprefix("{").removesuffix("}")) if line.startswith("{") else None
        lines += list(part()) if part else [line]
    single = [line for line, before in zip(lines, ["", *lines]) if line or before]
    return "\n".join(single).rstrip() + "\n"


def main() -> None:
    """Take in what the command line names, and write the document."""
    for argument in sys.argv[1:]:
        name, _, file = argument.partition("=")
        content = take(name, json.loads(Path(file).read_text(encoding="utf-8")))
        (RESULTS / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    (ROOT / "docs/results.md").write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
