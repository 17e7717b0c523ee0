"""Try bytes on a target for a while, led by what code they reach.

    python tests/fuzz/run.py NAME SECONDS [CORPUS]

Begins with the target's seeds, and with what lies in the folder CORPUS, where inputs that reach something new are kept
(a temporary folder if none is given). Input that fails is left in fuzz-found/, and the exit code is not 0; what
libsndfile alone fails on is left there too, but is not ours, so the target `audio` then goes on.
Needs atheris (`nox -s fuzz` installs it).
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FOUND = Path("fuzz-found")
LONGEST = {"sound_unit": 4 * 212, "aea": 2048 + 8 * 212, "decode": 2048 + 8 * 212, "audio": 4096}
"""Bytes of the longest input."""


ROUND = 60
"""Seconds after which to go on in a fresh process: atheris never frees what an instrumented comparison gives, which
with arrays is some 100 kB for each input."""


def fuzz(name: str, options: list[str]) -> None:
    """Run the fuzzer in this process, which it ends."""
    import warnings

    import atheris

    with atheris.instrument_imports(include=["targets", "atrac_bitstream", "atrac_codec", "tinytag"]):
        import targets
    warnings.simplefilter("error")
    seeds = list(targets.seeds(name))

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        """Change a seed in every other case: what goes on in libsndfile is not seen, so that nothing leads there."""
        rng = np.random.default_rng(seed)
        if rng.random() < 0.5:
            return targets.changed(seeds[rng.integers(len(seeds))], rng)[:longest]
        return atheris.Mutate(data, longest)

    atheris.Setup([name, *options], targets.TARGETS[name], **({"custom_mutator": mutate} if name == "audio" else {}))
    atheris.Fuzz()


def is_of_libsndfile(name: str, found: Path) -> bool:
    """Tell whether libsndfile dies of an input, or never comes back, without any code of ours."""
    if name != "audio":
        return False
    alone = "import soundfile, sys; any(0 for _ in soundfile.blocks(sys.argv[1], 65536))"
    try:
        command = [sys.executable, "-c", alone, str(found)]
        return subprocess.run(command, stderr=subprocess.DEVNULL, timeout=10).returncode < 0
    except subprocess.TimeoutExpired:
        return True


def main() -> int:
    """Write the seeds, then run the fuzzer in a process of its own: it ends without cleaning up."""
    if sys.argv[1:2] == ["--child"]:
        fuzz(sys.argv[2], sys.argv[3:])
    import targets

    if len(sys.argv) not in (3, 4) or sys.argv[1] not in targets.TARGETS or not sys.argv[2].isdigit():
        sys.exit(f"{__doc__}\nNAME is one of {', '.join(targets.TARGETS)}")
    name, end = sys.argv[1], time.monotonic() + int(sys.argv[2])
    with tempfile.TemporaryDirectory() as scratch:
        seeds, corpus = Path(scratch) / "seeds", Path(*sys.argv[3:] or [scratch, "corpus"])
        for folder in (seeds, corpus, FOUND):
            folder.mkdir(parents=True, exist_ok=True)
        for data in targets.seeds(name):
            (seeds / hashlib.sha1(data).hexdigest()).write_bytes(data)
        # One thread: those that wait for each other on a busy core crawl. Temporary files go where they are removed.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": scratch}
        while (left := round(end - time.monotonic())) > 0:
            before = set(FOUND.iterdir())
            options = [
                f"-max_total_time={min(left, ROUND)}",
                f"-max_len={LONGEST[name]}",
                f"-timeout={10 if name == 'audio' else 60}",
                "-rss_limit_mb=4096",
                "-keep_seed=1",  # else those of audio formats that Python treats alike go
                f"-artifact_prefix={FOUND}/{name}-",
                str(corpus),
                str(seeds),
            ]
            code = subprocess.run([sys.executable, __file__, "--child", name, *options], env=environment).returncode
            found = sorted(set(FOUND.iterdir()) - before)
            for path in found:
                print(f"{path}: python tests/fuzz/targets.py {name} {path}", flush=True)
            if code and not (found and all(is_of_libsndfile(name, path) for path in found)):
                return code
            if found:
                print("libsndfile alone fails here too; on we go", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
