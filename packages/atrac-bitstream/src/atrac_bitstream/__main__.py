"""`python -m atrac_bitstream`: describe and repair AEA files, without torch.

Exit codes: 0 all well, 1 some file could not be read or written or is damaged, 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from atrac_bitstream.aea_header import AeaHeader
from atrac_bitstream.damage import POLICIES
from atrac_bitstream.errors import AtracError
from atrac_bitstream.info import read_info
from atrac_bitstream.repair import repair_file


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m atrac_bitstream", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    raw = argparse.ArgumentParser(add_help=False)
    raw.add_argument("--raw", type=int, choices=(1, 2), metavar="CHANNELS", help="the files have no header")
    info = commands.add_parser("info", parents=[raw], help="describe AEA files")
    info.add_argument("files", nargs="+", metavar="FILE")
    info.add_argument("--json", action="store_true", help="one JSON object per file and line")
    repair = commands.add_parser("repair", parents=[raw], help="copy a file, replacing unreadable sound units")
    repair.add_argument("source", metavar="IN")
    repair.add_argument("target", metavar="OUT")
    policies = [name for name in POLICIES if name != "raise"]
    repair.add_argument("--damage", choices=policies, default="silence", help="replacement (%(default)s)")
    repair.add_argument("--force", action="store_true", help="replace an existing file")
    args = parser.parse_args(argv)
    header = None if args.raw is None else AeaHeader.make(args.raw)

    status = 0
    for file in [args.source] if args.command == "repair" else args.files:
        try:
            if args.command == "repair":
                _repair(args, header)
            elif _describe(file, header, as_json=args.json):
                status = 1
        except (AtracError, OSError) as error:
            print(f"{_printable(file)}: {_printable(error)}", file=sys.stderr)
            status = 1
    return status


def _repair(args: argparse.Namespace, header: AeaHeader | None) -> None:
    """Repair a file and print what was done. Raises: AtracError, OSError."""
    if not args.force and Path(args.target).exists():
        raise FileExistsError(f"{args.target} exists; --force replaces it")
    print(_printable(repair_file(args.source, args.target, POLICIES[args.damage](), header=header)))


def _describe(file: str, header: AeaHeader | None, *, as_json: bool) -> bool:
    """Print what a file holds; tell whether it is damaged. Raises: AtracError, OSError."""
    facts = read_info(file, header=header)
    if as_json:
        print(json.dumps({"file": file, **asdict(facts)}))
    else:
        print(_printable(file))
        for name, text in facts.lines():
            print(f"  {name:18} {_printable(text)}")
    return bool(facts.damages)


def _printable(value: object) -> str:
    """Write out control characters and what the terminal's encoding lacks."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
