"""The commands and the Python snippets of README.md and docs/*.md run as they stand, in the folder of `compass demo`.

Every `bash` and `python` block is run in the order of the site, or is marked by `<!-- not run: REASON -->` on the line before
it. What differs from a reader's terminal, so that all pages take some minutes:

- `compass` is a wrapper that adds the settings of `SHORT` to the commands of `PLANNING`: a space of small models, one C
  allocator, fewer and shorter probes, a cycle of ten batches, two epochs. Profiles hold their settings, so `train` and
  `verify` follow. `optimize` plans two stages. With the defaults, it takes four minutes. Functions of `compass` in Python
  have the same settings.
- `python` and `torchrun` are those of this environment.
- `--memory-limit` is at most `MOST_MEMORY`, and is added where it is missing, so that a plan does not depend on what other
  programs hold.
- A command of `ONCE` is not run a second time with the same words. `optimize` then puts back the profile that it wrote.
- The cache is new, and shared by all pages, as on a reader's machine. Each page begins with the profile that README's commands leave.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from compass.demo.writing import write_demo

ROOT = Path(__file__).parents[2]
RUN, SHOWN = {"bash", "python"}, {"text", "mermaid"}
ALL_STAGES = ("smoke_test", "prototyping", "validation", "production")
SHORT = [
    *(f'stages.{stage}.allocator=["fast"]' for stage in ALL_STAGES),
    *(f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")),
    *(f"stages.{stage}.fused=[false]" for stage in ALL_STAGES),
    "runtime.waiting=sleep", "space.layers=[2,3]", "space.channels=[16,48]", "space.channels_per_layer=[4,32]",
    "space.small_share=[0.01,1]", "space.large_share=[0.01,1]", "cycle_batches=10", "training.epochs=2", "batch.max_batch=4",
    "probe.micro_loads=[[100,8],[300,32]]", "probe.micro_architectures=[[3,16],[6,64]]", "probe.extra_architectures=[]",
    "probe.anchor_architectures_cpu=[[2,16],[3,48]]", "probe.anchor_step_s_cpu=[0.1]", "probe.smoke_steps=4",
    "probe.timed_s=1", "probe.timed_most=10", "probe.patience_s=1", "probe.shuffled_batches=1", "probe.certify_rounds=1",
    "probe.certify_again=0", "verify.step_tolerance=1",
]  # fmt: skip
MOST_MEMORY = "2GiB"
STAGES = "prototyping,production"
PLANNING = {"optimize", "estimate", "fit", "fleet optimize"}
ONCE = {"scan", "workload", "doctor", "estimate", "optimize"}
MADE_ANEW = ("demo", "my_config.py", "runs")
"""Made by commands of several pages, which refuse to overwrite them. Each page starts without them."""

WRAPPER = f"""\
#!{sys.executable}
import shutil, sys
from pathlib import Path
from compass.cli import main


def run():
    args, before = sys.argv[1:], Path(__file__).parent / "before"
    name = " ".join(args[:2]) if args[:1] == ["fleet"] else args[0] if args else ""
    profile = Path(args[args.index("--out") + 1] if "--out" in args else "hardware_profile.json")
    kept = before / " ".join(args).replace("/", "|")
    if name in {ONCE!r} and kept.exists():
        if name == "optimize":
            shutil.copy(kept, profile)
        return
    if name in {PLANNING!r}:
        sys.argv += [word for setting in {SHORT!r} for word in ("--set", setting)]
        if "--memory-limit" in args:
            sys.argv[1 + args.index("--memory-limit") + 1] = {MOST_MEMORY!r}
        else:
            sys.argv += ["--memory-limit", {MOST_MEMORY!r}]
    if name.endswith("optimize") and not {{"--stage", "--stages", *{ALL_STAGES!r}}} & set(args):
        sys.argv += ["--stage", {STAGES!r}]
    try:
        main()
    except SystemExit as end:
        if not end.code and name in {ONCE!r}:
            before.mkdir(exist_ok=True)
            shutil.copy(profile, kept) if name == "optimize" else kept.touch()
        raise


if __name__ == "__main__":  # the processes of a scan import this file
    run()
"""

SHORT_PYTHON = f"""\
import runpy
import sys

import compass.api.arguments as arguments

plain = arguments.load_config
arguments.load_config = lambda path, changes=(), *base: plain(path, changes if base else [*{SHORT!r}, *changes], *base)
sys.path.insert(0, ".")
runpy.run_path("snippet.py", run_name="__main__")
"""
PROGRAMS = {"python": '"$@"', "torchrun": '-m torch.distributed.run "$@"'}
"""Programs that the commands name, with the arguments that this Python is given for them."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    code: str
    reason: str
    """Why it is not run; empty if it is."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README.md and docs/*.md, the latter in the order of the site."""
    listed = re.findall(r"^ +- (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    return ["README.md", *(f"docs/{name}" for name in listed)]


def blocks(page: str) -> list[Block]:
    found = []
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        fence = re.fullmatch(r"```(\w*)", lines[number])
        number += 1
        if fence is None:
            continue
        end = lines.index("```", number)
        mark = re.fullmatch(r"<!-- not run: (.+) -->", lines[number - 2])
        found.append(
            Block(page, number, fence[1], "\n".join(lines[number:end]) + "\n", "" if mark is None else mark[1])
        )
        number = end + 1
    return found


BLOCKS = [block for page in pages() for block in blocks(page)]
TO_RUN = [block for block in BLOCKS if block.language in RUN and not block.reason]


def test_every_page_is_looked_at():
    assert sorted(pages()[1:]) == sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))


def test_every_block_is_run_or_marked_with_a_reason():
    assert {block.language for block in BLOCKS} <= RUN | SHOWN
    marks = [
        f"{page}: {mark}" for page in pages() for mark in re.findall(r"<!-- not run: .* -->", (ROOT / page).read_text())
    ]
    marked = [block for block in BLOCKS if block.reason]
    assert len(marks) == len(marked), "a mark stands on the line before its block"
    commands = [block for block in BLOCKS if block.language in RUN]
    assert len(commands) == len(TO_RUN) + len(marked)
    assert len(marked) <= len(commands) // 4, "most blocks run"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """(the folder of the demo, the environment of its commands)."""
    place = tmp_path_factory.mktemp("reader")
    write_demo(place / "demo")
    (place / "bin").mkdir()
    wrapper = place / "bin" / "compass"
    wrapper.write_text(WRAPPER)
    for name, arguments in PROGRAMS.items():
        (place / "bin" / name).write_text(f"#!/bin/sh\nexec {sys.executable} {arguments}\n")
    for program in (place / "bin").iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (place / "short.py").write_text(SHORT_PYTHON)
    env = {
        **{name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"},
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(place),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", str(Path.home() / ".cache" / "matplotlib")),
    }
    return place / "demo", env


@pytest.mark.docs
@pytest.mark.timeout(900)
@pytest.mark.parametrize("block", TO_RUN, ids=str)
def test_a_block_runs(workplace, block):
    folder, env = workplace
    profile, of_readme = folder / "hardware_profile.json", folder.parent / "profile_of_readme.json"
    if block is next(each for each in TO_RUN if each.page == block.page):
        for name in MADE_ANEW:
            subprocess.run(["rm", "-rf", folder / name], check=True)
        if of_readme.exists():
            shutil.copy(of_readme, profile)
    if block.language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", block.code]
    else:
        (folder / "snippet.py").write_text(block.code)
        command = [sys.executable, "../short.py"]
    ran = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if block.page == "README.md" and profile.exists():
        shutil.copy(profile, of_readme)
    assert ran.returncode == 0, f"{block}\n{block.code}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
