"""Everything that only an accelerator can show, in one command: `python -m benchmarks.gpu_check [--quick] [--only PART ...]`.

Runs the GPU tests and the benchmarks of memory, time, batches, plans and families, one after the other, each in a process of its
own. Prints one table and writes `gpu_check.json` (`--out`) after every part, with the device's name; the last line is the same
JSON. Where there is no accelerator it says so and ends well. Exit code 1: a part failed, or missed one of its targets.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compass.device import detect, devices

PARTS: dict[str, list[str]] = {
    "tests": ["pytest", "-q", "-m", "gpu", "tests/gpu"],
    **{name: [f"benchmarks.{name}"] for name in ("memory", "time", "batch_size", "plans", "families")},
}
WITHOUT_QUICK = ("tests",)
TIMEOUT_S = 3600.0
N_LAST_LINES = 20


@dataclass
class Part:
    """How one part ended."""

    name: str
    seconds: float
    exit_code: int | None
    """None: it was stopped after the time limit."""
    figures: Any = None
    """The JSON of its last line."""
    missed: list[str] = field(default_factory=list)
    """Targets that were not met."""
    n_targets: int = 0
    last_lines: list[str] = field(default_factory=list)
    """Of its output, if it failed."""

    @property
    def is_good(self) -> bool:
        """Whether it ran to its end and met its targets."""
        return self.exit_code == 0 and not self.missed

    @property
    def says(self) -> str:
        """Its end in words."""
        if self.exit_code is None:
            return "stopped: out of time"
        if self.exit_code:
            return f"failed with exit code {self.exit_code}"
        if self.missed:
            return f"missed {len(self.missed)} of {self.n_targets} targets: {', '.join(self.missed)}"
        return f"met {self.n_targets} targets" if self.n_targets else "passed"


def run_part(name: str, command: Sequence[str], timeout_s: float) -> Part:
    """Run one part and read its last line."""
    started = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
        exit_code, said = done.returncode, done.stdout
    except subprocess.TimeoutExpired as error:
        exit_code, said = None, (error.stdout or b"").decode(errors="replace")
    part = Part(name, round(time.perf_counter() - started, 1), exit_code)
    lines = said.splitlines()
    if exit_code != 0:
        part.last_lines = lines[-N_LAST_LINES:]
    elif lines and lines[-1].startswith(("{", "[")):
        part.figures = json.loads(lines[-1])
        targets = dict(_targets(part.figures))
        part.n_targets, part.missed = len(targets), [target for target, met in targets.items() if not met]
    return part


def _targets(figures: Any) -> list[tuple[str, bool]]:
    """(target, met) wherever the figures of a benchmark hold them."""
    if isinstance(figures, list):
        return [(f"{target} ({place + 1})", met) for place, one in enumerate(figures) for target, met in _targets(one)]
    if isinstance(figures, Mapping):
        return [(target, bool(met)) for key in ("targets", "met") for target, met in figures.get(key, {}).items()]
    return []


def check(parts: Mapping[str, Sequence[str]], out: Path, *, quick: bool, timeout_s: float) -> dict[str, Any]:
    """Run `parts`, print a row after each, and keep what is known so far in `out`."""
    hardware = detect(limit_bytes=None, reserve_share=0.0)
    found: dict[str, Any] = {"device": hardware.name, "hardware": hardware.model_dump(mode="json"), "quick": quick}
    ended: list[Part] = []
    for name, command in parts.items():
        arguments = ["--quick"] if quick and name not in WITHOUT_QUICK else []
        ended.append(run_part(name, [*command, *arguments], timeout_s))
        print(f"{name}: {ended[-1].says} ({ended[-1].seconds:.0f} s)", *ended[-1].last_lines, sep="\n  ", flush=True)
        found |= {"good": all(part.is_good for part in ended), "parts": [asdict(part) for part in ended]}
        out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    print(f"\n{hardware.name}")
    for part in ended:
        print(f"{part.name:12}{part.seconds / 60:>7.1f} min  {part.says}")
    return found


def main() -> int:
    """Run everything that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the benchmarks' short versions")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--timeout-s", type=float, default=TIMEOUT_S, help="of each part")
    asked = parser.parse_args()
    if devices() == ("cpu",):
        print("skipped: this machine has no accelerator that PyTorch can use")
        return 0
    parts = {name: PARTS[name] for name in asked.only}
    found = check(parts, asked.out, quick=asked.quick, timeout_s=asked.timeout_s)
    print(json.dumps(found))
    return 0 if found["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
