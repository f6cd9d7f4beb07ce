"""Settings from files and from the command line, and the command line's sizes, times, counts and names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.fuzz.changes import ODD_NUMBERS, ODD_WORDS, RAW, any_of, deep, number, text_change, whole, wide
from benchmarks.fuzz.judging import FuzzedReader
from benchmarks.fuzz.standing import invented_leaves
from compass.cli.parse import named, parse_axes, parse_count, parse_stages
from compass.config_files import changed_settings, load_config, project_file
from compass.data.structures.affinity import parse_affinity
from compass.fleet.fleet_file import read_fleet_file
from compass.units import parse_bytes, parse_seconds

_TOML = b"""seed = 3
[memory]
reserve_share = 0.1
[stages.prototyping]
target_s = "30min"
[dataset]
path = "data"
pocket_radius = 6.5
[space.options]
cutoff = 5
"""
_YAML = b"""seed: 3
memory: {reserve_share: 0.1}
stages:
  prototyping:
    target_s: 30min
dataset:
  path: data
  pocket_radius: 6.5
space:
  options: {cutoff: 5}
"""
_FLEET = b"""kinds:
  a100: {device: "NVIDIA A100*", price_per_hour: 3.2, power_w: 400}
  t4: {node: "cloud-*", partition: gpu-t4}
currency: EUR
priced_on: 2026-11-30
workload: runtime_env
wait_s: 30
"""
_JSON = b'{"seed": 3, "memory": {"reserve_share": 0.1}, "stages": {"prototyping": {"target_s": "30min"}}, "dataset": {"path": "data"}}'
_PROJECT = b"[project]\nname = 'x'\n[tool.compass]\nseed = 3\n[tool.compass.stages.prototyping]\ntarget_s = '30min'\n[tool.other]\nx = 1\n"
_ALIASES = b"a0: &a0 {x: 1, y: 2}\n" + b"".join(
    b"a%d: &a%d {x: *a%d, y: *a%d}\n" % (i, i, i - 1, i - 1) for i in range(1, 40)
)
_LISTS = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40))
_BOMBS: dict[str, list[Callable[[], bytes]]] = {
    "toml": [
        deep(b"a=[", n=50_000), deep(b"[", b"]"), wide(b"a", b".a", b"=1"), wide(b"a", b".a", b"=1", n=120_000), wide(b"", b"a" + b".a" * 990 + b"=1\n", n=130), wide(b"", b"[a.b]\n", n=40_000), wide(b"a=[", b"1,", b"]", n=120_000), wide(b"a=", b"9", n=5000), wide(b"a=", b"9", n=1_000_000), whole(b""),
        wide(b"a=[", b"1,", b"]", n=1_000_000), wide(b"", b"[a.b]\n"), whole(b"seed=inf"), wide(b'a="', b"x" * 30), whole(b"seed=1979-05-27T07:32:00Z"),
        wide(b"[dataset]\npath='", b"x" * 10, b"'"), whole(b"seed=3\nseed=4"), wide(b"[space.options]\n", b"''=1\n"), whole(b"a.b=1\na.b.c=2"),
    ],
    "yaml": [
        deep(b"["), deep(b"- ", n=20_000), deep(b"{a: "), whole(_ALIASES), whole(_LISTS), whole(b"dataset: &a {path: *a}"), whole(b"&a [*a]"),
        whole(b"seed: " + b"9" * 5000), whole(b"seed: .inf"), whole(b"? [1]\n: 2"), whole(b"seed: 2001-99-99"), whole(b"!!python/object:os.system x"),
        whole(b"seed: 1\nseed: 2"), whole(b"seed: 010"), whole(b"seed: 1:30"), whole(b"seed: !!binary x"), whole(b"a: !!set {a, b}"), whole(b""),
        wide(b"a: [", b"1,", b"]", n=300_000), wide(b"a: [", b"1,", b"]", n=100_000), deep(b"[", n=100_000), wide(b"", b"? ", n=100_000), wide(b"a: '", b"x" * 30), whole(b"---\na\n---\nb"), whole(b"<<: {seed: 4}"), whole(b"seed: 0b11"),
        whole(_LISTS.replace(b"a39:", b"dataset:")), whole(b"space:\n  options:\n    x: &x {y: *x}\n"), whole(b"%YAML 9.9\n---\na: 1"),
        whole(b"stages: {prototyping: {target_s: 20:30}}"), whole(b"test_bench: {name: yes}"), whole(b"seed: ~"), whole(b"dataset: {path: 1e400}"),
    ],
    "json": [
        deep(b"["), deep(b'{"a":', b"}"), whole(b'{"seed": NaN}'), whole(b'{"seed": ' + b"9" * 5000 + b"}"), whole(b'{"seed": 1, "seed": 2}'), whole(b""),
        wide(b"[", b"[],", b"0]"), whole(b'{"space": {"options": {"x": NaN}}}'), wide(b'{"', b"x" * 30), whole(b'{"seed": 1e5}'), whole(b"3"),
        whole(b'{"dataset": {"path": "\\ud800"}}'), whole(b'{"seed": ' + b"9" * 400 + b"}"), whole(b'{"dataset": ' + b"[" * 900 + b"]" * 900 + b"}"),
    ],
}  # fmt: skip
_BOMBS["pyproject"] = [
    *_BOMBS["toml"],
    whole(b"[tool]\ncompass = 3"),
    whole(b"tool = 3\n[tool.compass]"),
    whole(b"[tool.compass]"),
]
_CHANGES = (
    b"seed=3", b"stages.prototyping.target_s=30min", b"dataset.path=x", b"memory.reserve_share=0.1", b"space.options.cutoff=5", b"dataset.pocket_radius=None",
    b"dataset.protein_suffixes=a,b", b"space.layers=[1,2]", b"stages.production.target_s=1e10", b"dataset={'path': 'x'}", b"test_bench.name=1e10",
)  # fmt: skip
_KEYS = (
    b"seed",
    b"memory",
    b"stages",
    b"dataset",
    b"path",
    b"space",
    b"options",
    b"target_s",
    b"training",
    b"split",
    b"test_bench",
    b"name",
)
_WORDS = {
    "sizes": [b"6GiB", b"512 MB", b"1073741824", b"1.5t", b"0.5k"],
    "times": [b"90s", b"20min", b"1.5h", b"2d", b"30"],
    "counts": [b"19000", b"19,000", b"19k", b"1.2M", b"1_000"],
    "stages": [b"smoke_test", b"prototyping,production", b"hardware_profile.json", b"prototypin"],
    "axes": [b"precision=bf16", b"checkpointing=true", b"allocator=jemalloc", b"x=1"],
    "affinities": [b"Kd=49uM", b"IC50<10mM", b"Ki~5pM", "Ki=1µM".encode()],
}


def _of_settings(name: str) -> tuple[Callable[[bytes], Any], Path, Callable[[], Any]]:
    path = Path(name)

    def place() -> Any:
        if path.name == "pyproject.toml" and project_file(Path()) is None:
            return []
        return list(changed_settings(load_config(path)).items())

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        return place()

    return read, path, place


def _of_change(data: bytes) -> Any:
    parts = [part.decode("utf-8", "surrogateescape") for part in data.split(b"\n")]
    return list(changed_settings(load_config(None, parts)).items())


def _of_words(read: Callable[[str], Any]) -> Callable[[bytes], Any]:
    return lambda data: read(data.decode("utf-8", "surrogateescape"))


def _mixed(data: bytes, chance: Random) -> bytes:
    """A short word, changed or put together from odd pieces."""
    if chance.random() < 0.3:
        return b"".join(
            chance.choice((*ODD_NUMBERS, *ODD_WORDS, data, b"GiB", b"k", b"min", b"=", b",", b"."))
            for _ in range(chance.randint(1, 4))
        )
    return any_of(*RAW, number)(data, chance)


def _is_finite(data: bytes, value: Any) -> str:
    """A quantity is a finite number above zero, from ASCII digits."""
    if value is None:
        return ""
    if not 0 < value < float("inf"):
        return f"{value!r} from {data[:40]!r}"
    text = data.decode("utf-8", "replace")
    return f"a number from {text[:40]!r}" if any(letter.isdigit() and not letter.isascii() for letter in text) else ""


def _affinity(text: str) -> Any:
    return parse_affinity(text, where="x").molar


def _fleet_file_reader() -> FuzzedReader:
    path = Path("fleet.yaml")

    def read(data: bytes) -> Any:
        path.write_bytes(data)
        return read_fleet_file(path)

    words = (
        b"kinds",
        b"device",
        b"price_per_hour",
        b"power_w",
        b"wait_s",
        b"runtime_env",
        b"*",
        b"{",
        b"}",
        b": ",
        b"- ",
        b".nan",
        b"-1",
    )
    return FuzzedReader(
        "fleet file", [_FLEET], read, text_change(*words), special=_BOMBS["yaml"], path=path,
        read_place=lambda: read_fleet_file(path), weight=0.3,
    )  # fmt: skip


def settings_readers() -> Iterator[FuzzedReader]:
    """The readers of settings and of words on the command line."""
    for title, name, seed in (("settings, TOML", "c.toml", _TOML), ("settings, YAML", "c.yaml", _YAML), ("settings, JSON", "c.json", _JSON),
                              ("[tool.compass]", "pyproject.toml", _PROJECT)):  # fmt: skip
        read, path, place = _of_settings(name)
        signs = (b"[", b"]", b"{", b"}", b":", b"=", b"- ", b'"""', b"&a ", b"*a", b"!!int ", b"|\n", b"? ", b"<<: ")
        bombs = _BOMBS["pyproject" if name == "pyproject.toml" else name.partition(".")[2]]
        yield FuzzedReader(
            title, [seed], read, text_change(*_KEYS, *signs), invented_leaves, bombs, path, place, weight=0.3
        )
    yield _fleet_file_reader()
    deepest = [
        deep(b"seed=["),
        deep(b"seed=("),
        deep(b"seed=-", n=100_000),
        whole(b"seed=" + b"9" * 5000),
        deep(b"a.", n=100_000),
        whole(b"seed=" + b"9" * 400),
    ]
    yield FuzzedReader(
        "changes by --set", _CHANGES, _of_change, text_change(*_KEYS, b"=", b"."), special=deepest, weight=0.3
    )
    readers: dict[str, tuple[Callable[[str], Any], Callable[[bytes, Any], str]]] = {
        "sizes": (lambda text: parse_bytes(text, where="x"), _is_finite),
        "times": (lambda text: parse_seconds(text, where="x"), _is_finite),
        "counts": (parse_count, _is_finite),
        "stages": (lambda text: (parse_stages([text]), named([text])), lambda _data, _value: ""),
        "axes": (lambda text: parse_axes([text]), lambda _data, _value: ""),
        "affinities": (_affinity, _is_finite),
    }
    for title, (read_word, judge) in readers.items():
        special = [whole(b""), whole(b"9" * 5000), whole(b"9" * 400), whole(b"0" * 100_000), whole("６GiB".encode()), whole(b"1" * 400 + b"GiB"),
                   wide(b"1", b" ", n=200_000), whole(b"1e5"), whole("²".encode()), whole(b"nan"), whole(b"9" * 308 + b"d")]  # fmt: skip
        yield FuzzedReader(title, _WORDS[title], _of_words(read_word), _mixed, judge, special, weight=0.8)
