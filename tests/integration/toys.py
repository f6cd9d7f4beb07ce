"""A workload whose samples are named after what it does with them, for `path/to/file.py:factory`."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

from compass.device.meter import CpuMeter
from compass.records import Load

GIB = 1024**3
SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]


def note(pid: int) -> None:
    """Tell the test of a process it is to look for."""
    with Path(os.environ["TOY_NOTES"]).open("a") as file:
        file.write(f"{pid}\n")


def hang() -> None:
    note(os.getpid())
    time.sleep(600)


def hang_with_children() -> None:
    note(subprocess.Popen(SLEEP).pid)
    pid = os.fork()
    if pid:
        note(pid)
    time.sleep(600)


def exit_with_child() -> None:
    """The child inherits open files. If the pipe of the answers were among them, the parent would not notice the worker's end."""
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    note(pid)
    os._exit(3)


def come_back_twice() -> None:
    if os.fork() == 0:
        raise RuntimeError("a child that its parent's code did not expect")


def leave_a_child() -> None:
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    note(pid)


KEPT = []


def keep() -> None:
    KEPT.append(torch.ones(2**19))


def print_all_ways() -> None:
    print('{"ok": "print"}', flush=True)  # noqa: T201 - that is what it does
    sys.__stdout__.write('{"ok": "stdout"}\n')
    os.write(1, b'{"ok": "descriptor"}\n')
    ctypes.CDLL(None).puts(b'{"ok": "C"}')
    subprocess.run(["echo", '{"ok": "child"}'], check=True)


def read_input() -> None:
    assert sys.stdin.read() == ""


def mutter_of_memory() -> None:
    os.write(2, b"libgomp: Out of memory allocating 64 bytes\n")


def start_fat_threads() -> None:
    threading.stack_size(GIB)
    for _ in range(8):
        threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()


def eat_slowly() -> list[torch.Tensor]:
    return [torch.ones(2**20) for _ in range(4096)]


def poison() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered")

    CpuMeter.synchronize = CpuMeter.empty_cache = fail
    fail()


def of_second_rank(mischief):
    """What rank 1 alone does; the others are well-behaved."""
    return lambda: mischief() if os.environ.get("RANK") == "1" else None


MISCHIEF = {
    "rank 1 exits": of_second_rank(lambda: os._exit(3)),
    "rank 1 eats": of_second_rank(eat_slowly),
    "rank 1 raises": of_second_rank(lambda: {}["the user's mistake"]),
    "rank 1 hangs": of_second_rank(hang),
    "rank 1 goes its own way": of_second_rank(lambda: "own way"),
    "poisons the device": poison,
    "fine": lambda: None,
    "raises": lambda: {}["the user's mistake"],
    "raises half a character": lambda: Path("/nowhere/\udc80").read_text(),
    "is not a number": lambda: "nan",
    "hangs": hang,
    "hangs with children": hang_with_children,
    "exits": lambda: os._exit(3),
    "exits politely": lambda: sys.exit(4),
    "exits, its child does not": exit_with_child,
    "segfault": lambda: ctypes.string_at(0),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "comes back twice": come_back_twice,
    "leaves a child": leave_a_child,
    "keeps what it computed": keep,
    "prints": print_all_ways,
    "reads": read_input,
    "moves": lambda: os.chdir("/"),
    "mutters of memory": mutter_of_memory,
    "closes everything": lambda: os.closerange(3, 256),
    "torch": lambda: torch.empty(GIB),
    "numpy": lambda: np.ones(GIB),
    "python": lambda: bytearray(4 * GIB),
    "slowly": eat_slowly,
    "threads": start_fat_threads,
}
LOAD = Load(graphs=1, sizes=(("rows", 8.0),))


class Toy:
    """A stack of linear layers."""

    name = "toy"
    features = ("rows",)
    digest = "toys"

    def __init__(self, config):
        pass

    def samples(self):
        return dict.fromkeys(MISCHIEF, LOAD)

    def build(self, knobs):
        if knobs.channels == 13:
            raise ValueError("thirteen channels bring bad luck")
        return torch.nn.Sequential(*(torch.nn.Linear(knobs.channels, knobs.channels) for _ in range(knobs.layers)))

    def blocks(self, model):
        return list(model)

    def load(self, batch):
        return LOAD

    def collate(self, batch):
        """A tree with tensors in it, and no `to` method."""
        return {"does": [name for name, _ in batch.members], "rows": (torch.ones(8, 1),)}

    def loss(self, model, batch):
        rows = batch["rows"][0].expand(-1, model[0].in_features)
        factors = [MISCHIEF[name]() for name in batch["does"]]
        if "own way" in factors:
            with torch.no_grad():
                model[0].weight.add_(1.0)
        return model(rows).square().mean() * (float("nan") if "nan" in factors else 1.0)


def refuse(config):
    raise RuntimeError("no toys today")
