"""`python -m atrac_bitstream info FILE...`: what AEA files hold, without torch."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from atrac_bitstream.errors import AtracError
from atrac_bitstream.info import read_info


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code (1: some file could not be read)."""
    parser = argparse.ArgumentParser(prog="python -m atrac_bitstream", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="describe AEA files")
    info.add_argument("files", nargs="+", metavar="FILE")
    info.add_argument("--json", action="store_true", help="one JSON object per file and line")
    args = parser.parse_args(argv)

    status = 0
    for file in args.files:
        try:
            facts = asdict(read_info(file))
        except (AtracError, OSError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            status = 1
            continue
        if args.json:
            print(json.dumps({"file": file, **facts}))
        else:
            print(_printable(file))
            for name, value in facts.items():
                print(f"  {name:18} {_printable(value)}")
    return status


def _printable(value: object) -> str:
    """Write out control characters and what the terminal's encoding lacks."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


if __name__ == "__main__":
    sys.exit(main())
