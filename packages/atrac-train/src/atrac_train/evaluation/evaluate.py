"""Compare encoders and decoders on recordings: the files of every encoder through every decoder, in numbers.

Every encoder gets the same 16-bit samples at 44.1 kHz. The other pairs of encoder and decoder are compared with the
first one: means with bootstrap intervals, and the number of recordings in which they are better.

OUT gets all numbers in evaluation.json (see atrac_train.evaluation.results). --report adds report.html, one file with
tables, pictures, and a player that switches between versions, also blind; and the pictures in a folder.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from atrac_bitstream import AtracError
from atrac_bitstream.tables import SAMPLE_RATE
from atrac_codec import DEFAULT, read_audio
from atrac_train.evaluation import coders, outside, scores
from atrac_train.evaluation.kinds import KINDS_FILE, SPEECH, kind_of, read_kinds
from atrac_train.evaluation.media import ORIGINAL, Media
from atrac_train.evaluation.panel import Panel
from atrac_train.evaluation.recordings import of_split, tracked
from atrac_train.evaluation.report import write_report
from atrac_train.evaluation.results import Evaluation, Item, Row, summed_up, versions
from atrac_train.evaluation.tables import show

_Seconds = Annotated[float, tyro.conf.arg(metavar="S")]
_Names = Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME"), tyro.conf.UseAppendAction]
_Commands = Annotated[tuple[str, ...], tyro.conf.arg(metavar="'NAME=COMMAND'"), tyro.conf.UseAppendAction]


@dataclass(frozen=True)
class Arguments:
    """The command line, see its help text."""

    folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Recordings, with a split.json or none."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="OUT")] = Path("evaluation")
    """Folder for the results."""
    encoder: _Names = ()
    """Preset or codec folder, NAME@fast or NAME@best with another effort. Default: the default preset,
    unless there is a peer."""
    decoder: _Names = ()
    """Decoder or codec folder. Default: ffmpeg, an independent decoder, to avoid self-grading."""
    peer: _Commands = ()
    """Outside encoder, a command that makes an AEA file {out} of a 16-bit WAV file {in}."""
    judge: _Commands = ()
    """Outside judge, a command that grades a decoded WAV file {dec} against its original {ref}: 24 bits, 44.1 kHz, two
    channels, without the codec's delay. Its score is the number on the first line that reads NUMBER or WORDS: NUMBER;
    more is better."""
    split: Literal["train", "validation", "test", "all"] = "test"
    """Recordings of the folder to use."""
    kinds: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """JSON file, pattern of paths to kind of content; default: FOLDER/kinds.json, if it exists. Recordings of kind
    speech get STOI and PESQ too, where their packages are installed."""
    shortest: _Seconds = 0.0
    """Seconds that a recording must have."""
    longest: _Seconds = 0.0
    """Seconds to use of a recording; 0 for all."""
    report: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write report.html and pictures."""
    report_longest: _Seconds = 10.0
    """Seconds of a recording to see and hear in the report."""
    device: str = "cpu"
    """Device that runs our encoders and decoders."""

    def check(self) -> None:
        """Check the seconds. Raises: ValueError."""
        for option, least in (("shortest", 0), ("longest", 0), ("report_longest", 0.1)):
            if not least <= (seconds := getattr(self, option)) < math.inf:
                raise ValueError(f"--{option.replace('_', '-')} {seconds}, allowed {least} s or more")


def main(argv: Sequence[str] | None = None) -> int:
    """Encode, decode, measure, print; the exit code is 1 if something could not be coded."""
    args = tyro.cli(Arguments, args=argv, description=__doc__)
    try:
        args.check()
        evaluation, media = evaluate(args)
        evaluation.write(args.output / "evaluation.json")
        if args.report:
            write_report(evaluation, media, args.output)
    except (AtracError, OSError, ValueError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    show(evaluation)
    print(", ".join(str(args.output / name) for name in ("evaluation.json", *["report.html"] * args.report)))
    return int(any(row.error for row in evaluation.rows))


def evaluate(args: Arguments) -> tuple[Evaluation, list[Media]]:
    """Make the folder for results, code and measure all recordings.

    Raises: AtracError, OSError, ValueError: an argument or a recording is wrong.
    """
    device = coders.found_device(args.device)
    peers = [outside.Program.of("--peer", text, outside.ENCODER_PLACES) for text in args.peer]
    judges = [outside.Program.of("--judge", text, outside.JUDGE_PLACES) for text in args.judge]
    presets = args.encoder or (() if args.peer else (DEFAULT,))
    unique("--encoder and --peer", [ORIGINAL, *presets, *(peer.name for peer in peers)])
    unique("--judge", [*scores.SCORES, *scores.SPEECH_SCORES, *(judge.name for judge in judges)])
    encoders = {name: coders.preset_encoder(name, device) for name in presets}
    encoders |= {peer.name: coders.outside_encoder(peer) for peer in peers}
    decoders = {name: coders.decoder(name, device) for name in args.decoder or (coders.FFMPEG,)}
    chosen = of_split(args.folder, args.split)
    beside = args.folder / KINDS_FILE
    kinds = read_kinds(args.kinds or beside) if args.kinds or beside.exists() else {}

    args.output.mkdir(parents=True, exist_ok=True)
    items: list[Item] = []
    rows: list[Row] = []
    media: list[Media] = []
    with tempfile.TemporaryDirectory() as scratch, outside.grading(judges) as grade:
        panel = Panel(encoders, decoders, grade, Path(scratch), args.report_longest if args.report else 0.0)
        for recording in tracked(chosen, "recordings"):
            pcm = read_audio(args.folder / recording.path)
            if pcm.shape[1] < args.shortest * SAMPLE_RATE or not pcm.size:
                continue
            wav, original = panel.prepare(pcm[:, : int(args.longest * SAMPLE_RATE) or None])
            seconds = round(original.shape[1] / SAMPLE_RATE, 3)
            items.append(Item(recording.path, seconds, len(original), kind_of(recording.path, kinds)))
            measured, seen = panel.measure(items[-1], wav, original)
            rows += measured
            media += [seen] if seen else []
    if not rows:
        raise ValueError(f"{args.folder}: no recordings of split {args.split} that are long enough")
    better = scores.SCORES | (scores.SPEECH_SCORES if any(item.kind == SPEECH for item in items) else {})
    better |= {judge.name: "more" for judge in judges}
    settings = {
        "split": args.split,
        "shortest": args.shortest,
        "longest": args.longest,
        "encoders": list(presets),
        "decoders": list(decoders),
        "peers": {peer.name: peer.command for peer in peers},
        "judges": {judge.name: judge.command for judge in judges},
        "versions": versions(),
    }
    return summed_up(settings, better, items, rows), media


def unique(option: str, names: Sequence[str]) -> None:
    """Raises: ValueError: a name comes twice, so that results could not be told apart."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{option}: {twice[0]!r} comes twice or is taken, allowed once")


if __name__ == "__main__":
    sys.exit(main())
