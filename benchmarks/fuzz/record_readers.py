"""What Compass wrote itself, and may find damaged: profiles, the ledger, runs, checkpoints, catalogues, graphs, a worker's answers."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from typing import Any, cast

from benchmarks.bit_flips import Kind, kinds
from benchmarks.fuzz.changes import (
    RAW,
    any_of,
    deep,
    json_change,
    spliced,
    text_change,
    tree_change,
    whole,
    wide,
)
from benchmarks.fuzz.judging import Change, FuzzedReader
from benchmarks.fuzz.model_readers import Payload, model_readers
from benchmarks.mutated_files import FILES
from compass.data.graphs.graph_store import GraphStore
from compass.data.scan.catalogue import Catalogue, ScanStore
from compass.errors import InputError
from compass.fleet.record import FLEET_NAME, read_fleet
from compass.probe.process import answer_in
from compass.probe.store import Store, read_ledger
from compass.profile import read_earlier, read_profile
from compass.records import Outcome
from compass.records.training import CYCLES, EPOCHS, PREDICTIONS, RESULTS, RUN_SPEC
from compass.reporting.evidence import read_evidence
from compass.reporting.reading import as_markdown, read_view
from compass.reporting.run_evidence import read_run
from compass.training.begin import finished_results
from compass.training.checkpoints import Checkpoints, read_checkpoint, run_spec_in
from compass.training.cycle_report import drop_rows
from compass.training.run_spec import read_run_spec
from compass.workloads.model_file import write_model

_BAD_JSON: list[Callable[[], bytes]] = [
    deep(b"["), deep(b"[", b"]"), deep(b'{"a":'), deep(b'{"a":', b"}"), deep(b'{"plans":[', b"]}"), whole(b""), whole(b"\xef\xbb\xbf{}"),
    whole(b"9" * 5000), whole(b'{"schema_version": ' + b"9" * 5000 + b"}"), whole(b'{"schema_version": ' + b"9" * 400 + b"}"), whole(b"NaN"),
    whole(b'{"schema_version": NaN}'), whole(b'{"schema_version": 1e999}'), wide(b"[", b"[],", b"0]"), wide(b'{"plans": [', b"{},", b"0]}"),
    wide(b'{"', b"x" * 30), wide(b'{"probe_log": [', b"{},", b"0]}"), wide(b"{", b'"a":1,', b'"b":2}'), whole(b'{"\\ud800": "\\udfff"}'),
    whole(b'{"schema_version": true}'), whole(b'{"schema_version": "3"}'), whole(b'{"schema_version": [3]}'), whole(b"[]"), whole(b"null"),
]  # fmt: skip


@dataclass(frozen=True)
class Made:
    """Files that Compass wrote, by kind, and a run that never was."""

    content: dict[str, bytes]
    run: dict[str, bytes]
    payload: bytes
    """The file of a model that leaves a trace where it is read."""
    digest: str
    n_graphs: int


def made_files() -> Made:
    """One good file of each kind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found: dict[str, Kind] = {kind.name: kind for kind in kinds(folder)}
        content = {kind: one.path.read_bytes() for kind, one in found.items()}
        catalogue = Catalogue.open(found["catalogue"].path)
        profile = read_profile(found["profile"].path)
        _test_module("made_up_run").write_run(
            folder / "whole",
            profile.plan("smoke_test"),
            profile.config,
            n_epochs=3,
            sizes=(("train", 6), ("val", 4), ("test", 4)),
        )
        names = (RUN_SPEC, RESULTS, CYCLES, EPOCHS, PREDICTIONS)
        run = {name: (folder / "whole" / name).read_bytes() for name in names}
        digest = found["graph store"].path.name.split(".")[-2]
        write_model(folder / "payload", cast("Any", Payload()))
        payload = (folder / "payload").read_bytes()
        return Made(content, run, payload, digest, len(catalogue.usable))


def _test_module(name: str) -> Any:
    """A module of the tests' folder, by its path."""
    path = FILES.parents[2] / f"{name}.py"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_file(name: str, read: Callable[[Path], Any]) -> tuple[Callable[[bytes], Any], Path, Callable[[], Any]]:
    """(reads bytes, the file, reads what lies there)."""
    path = Path(name)

    def of_bytes(data: bytes) -> Any:
        path.write_bytes(data)
        return read(path)

    return of_bytes, path, lambda: read(path)


def _profile(path: Path) -> Any:
    """A profile, and what is done with one at once."""
    profile = read_profile(path)
    return (
        repr(profile),
        profile._repr_html_(),
        profile.calibrated_runtime,
        profile.again("production"),
        read_earlier(path),
    )


def _evidence(path: Path) -> Any:
    return read_evidence(path)


def _report(path: Path, ledger: Path) -> Any:
    view, _ = read_view(path, ledger)
    return as_markdown(view)


def _ledger(path: Path) -> Any:
    """A ledger as a report reads it, then as a planning run does: that run cuts it."""
    try:
        found = read_ledger(path)
    except OSError as error:  # its contract: a report says that there is none
        raise InputError("ledger", got=str(error.strerror), expected="a file", fix="It is left out.") from error
    store = Store(path)
    for key, spec, _ in found.entries:
        store.find(key, spec)
    store.close()
    return len(found.entries)


def _ledger_change(data: bytes, chance: Random) -> bytes:
    """Changed lines with a true checksum, and damaged ones."""
    import zlib

    if chance.random() < 0.4:
        return any_of(*RAW)(data, chance)
    lines = data.splitlines()[:5]
    place = chance.randrange(len(lines))
    head, tab, tail = lines[place][9:].partition(b"\t")
    key, _, spec = head.partition(b" ")
    if chance.random() < 0.5:
        spec = tree_change(spec, chance)
    else:
        tail = tree_change(tail, chance)
    body = b" ".join((key, spec)) + tab + tail
    lines[place] = b"%08x %s" % (zlib.crc32(body), body)
    return b"\n".join([*lines, b""])


def _run_folder(run: dict[str, bytes], name: str, data: bytes) -> Any:
    """A run of which one file is damaged: its report, its tables as a resumed run cuts them, its settings and results."""
    folder = Path("run")
    folder.mkdir(exist_ok=True)
    for own, content in (run | {name: data}).items():
        (folder / own).write_bytes(content)
    evidence = read_run(folder, folder / RUN_SPEC)
    found: Any = len(evidence.missing)
    if len(data) % 8 == 0:
        found = len(as_markdown(read_view(folder)[0]))
    if name == RUN_SPEC:
        found = read_run_spec(folder)
        finished_results(found, folder)
    elif name in {CYCLES, EPOCHS}:
        drop_rows(folder / name, "ends_at" if name == CYCLES else "epoch", 5)
    elif name == RESULTS:
        finished_results(read_run_spec(folder), folder)
    return found


def _checkpoint(path: Path) -> Any:
    content = read_checkpoint(path)
    return run_spec_in(content).workload


def _resumed(data: bytes) -> Any:
    folder = Path("checkpoints")
    folder.mkdir(exist_ok=True)
    (folder / "batch-000000009.ckpt").write_bytes(data)
    return Checkpoints(folder, 1).newest()


def _catalogue(path: Path) -> Any:
    catalogue = Catalogue.open(path)
    for row in catalogue.usable:
        catalogue.complex(row.id)
    return catalogue.digest, catalogue.root


def _scan_store(data: bytes) -> Any:
    path = Path("again.sqlite")
    for name in ("again.sqlite", "again.damaged", "again.sqlite-journal", "again.sqlite-wal"):
        Path(name).unlink(missing_ok=True)
    path.write_bytes(data)
    with ScanStore(path) as store:
        return [store.outcome(key) for key in store.known()]


def _graphs(made: Made, path: Path) -> Any:
    try:
        store = GraphStore(path, made.digest)
    except (OSError, ValueError) as error:  # its own contract: such a store is built anew
        raise InputError("graphs", got=type(error).__name__, expected="a store", fix="It is built anew.") from error
    return [store.read(number) is None for number in range(made.n_graphs)]


def _answer(data: bytes) -> Any:
    content, _ = answer_in(data.decode("utf-8", "replace"))
    return content


def _torch_changes() -> Change:
    return any_of(*RAW)


def record_readers(made: Made) -> Iterator[FuzzedReader]:
    """The readers of Compass's own files."""
    schema_1 = (FILES.parents[1] / "recorded" / "profile_schema_1.json").read_bytes()
    profile = made.content["profile"]
    small = _small_profile(profile)
    ledger_file = Path("empty.jsonl").absolute()
    reading, path, place = _of_file(FLEET_NAME, lambda file: read_fleet(file.parent))
    fleet = [made.content["fleet"]]
    yield FuzzedReader("fleet", fleet, reading, spliced(json_change, fleet), special=_BAD_JSON, path=path, read_place=place, weight=0.3)  # fmt: skip
    for title, read, weight, seeds in (
        ("profile", _profile, 0.8, [profile, small, small]),
        ("profile of schema 1", _profile, 0.3, [schema_1, _small_profile(schema_1)]),
        ("profile in a report", _evidence, 0.6, [profile, small, schema_1]),
        ("report on a profile", partial(_report, ledger=ledger_file), 0.05, [profile]),
    ):
        reading, path, place = _of_file("p.json", read)
        yield FuzzedReader(
            title,
            seeds,
            reading,
            spliced(json_change, seeds),
            special=_BAD_JSON,
            path=path,
            read_place=place,
            weight=weight,
        )
    reading, path, place = _of_file("probes.jsonl", _ledger)
    ledger = b"\n".join([*made.content["ledger"].splitlines()[:6], b""])
    long = [
        whole(b""),
        wide(b"00000000 ", b"x" * 30),
        wide(b"", b"\n"),
        wide(b"", b"00000000 \n", n=300_000),
        whole(_sealed_line(b"[" * 100_000)),
    ]
    yield FuzzedReader(
        "ledger", [ledger], reading, _ledger_change, special=long, path=path, read_place=place, weight=0.5
    )
    for name in made.run:
        change = json_change if name.endswith(".json") else text_change(b",", b'"', b"nan", b"inf", b"\n,,\n")
        special = (
            _BAD_JSON
            if name.endswith(".json")
            else [whole(b""), wide(b"a,b\n", b"1,2\n"), wide(b"", b"a,"), wide(b'"', b"x" * 30)]
        )
        read_bytes = partial(_run_folder, made.run, name)
        path = Path("run") / name
        yield FuzzedReader(f"run: {name}", [made.run[name]], read_bytes, change, special=special, weight=0.35)
    yield from _binary_readers(made)
    yield from model_readers(made.content["model"], made.payload)
    answer = _answers(made.content["ledger"])
    yield FuzzedReader("answers of a worker", answer, _answer, json_change, special=_BAD_JSON, weight=0.8)


def _binary_readers(made: Made) -> Iterator[FuzzedReader]:
    for title, name, read, weight, content in (
        ("checkpoint", "x.ckpt", _checkpoint, 0.5, made.content["checkpoint"]),
        ("catalogue", "x.sqlite", _catalogue, 0.25, made.content["catalogue"]),
        ("graph store", "x.graphs", partial(_graphs, made), 0.6, made.content["graph store"]),
    ):
        reading, path, place = _of_file(name, read)
        if title == "graph store":
            place = partial(_as_missing, place)
        yield FuzzedReader(title, [content], reading, _torch_changes(), special=[whole(b""), whole(b"\0" * 100_000)], path=path,
                           read_place=place, weight=weight)  # fmt: skip
    unsealed = _unsealed(made.content["checkpoint"])
    yield FuzzedReader(
        "checkpoint of format 2", [unsealed], _of_file("y.ckpt", _checkpoint)[0], any_of(*RAW), weight=0.4
    )
    yield FuzzedReader(
        "checkpoint to resume", [unsealed, made.content["checkpoint"]], _resumed, any_of(*RAW), weight=0.2
    )
    yield FuzzedReader("catalogue of a scan", [made.content["catalogue"]], _scan_store, any_of(*RAW), weight=0.05)


def _as_missing(read: Callable[[], Any]) -> Any:
    return read()


def _sealed_line(body: bytes) -> bytes:
    import zlib

    return b"%08x %s\n" % (zlib.crc32(body), body)


def _small_profile(data: bytes) -> bytes:
    """A profile with two notes of probes: its other fields are hit more often."""
    tree = json.loads(data)
    for name in ("probe_log", "trail"):
        if name in tree:
            tree[name] = tree[name][:2]
    return json.dumps({key: value for key, value in tree.items() if key != "checksum"}).encode()


def _unsealed(data: bytes) -> bytes:
    """A checkpoint of the format before seals."""
    import io

    import torch

    content = torch.load(io.BytesIO(data), weights_only=True)
    file = io.BytesIO()
    torch.save(content | {"format": 2}, file)
    return file.getvalue()


def _answers(ledger: bytes) -> list[bytes]:
    """Lines that a worker writes."""
    found = [
        b'{"ok": null, "last": false}',
        b'{"bad_input": {"where": "w", "got": "g", "expected": "e", "fix": "f"}}',
        b'{"error": "Traceback"}',
    ]
    for line in ledger.splitlines()[:4]:
        outcome = Outcome.model_validate_json(line.partition(b"\t")[2])
        found.append(b'{"ok": %s, "last": false}' % outcome.model_dump_json().encode())
    return found
