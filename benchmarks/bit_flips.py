"""One flipped bit in every kind of file that Compass reads back: `python -m benchmarks.bit_flips [--tries N] [--seed S]`.

Each file is real: a scan and the graphs of the demo's structures, a profile and its ledger from a simulated machine, and the
settings and checkpoints of a run, and a model of the user's. After a flip the file is read as Compass reads it, and the outcome
is one of

- refused: an error of one line;
- noticed: a warning, or an entry that counts as missing and is made anew;
- harmless: the same content, as after a flip in the blanks of JSON;
- silent: another content without a word. There must be none, and no raw exception either.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader

import compass
from compass.data.graphs.graph_packing import pack_graphs
from compass.data.graphs.graph_store import SUFFIX, GraphStore
from compass.data.scan.catalogue import Catalogue
from compass.data.structures.graphs import Graph
from compass.demo.writing import write_demo
from compass.errors import CompassError
from compass.files import MODEL_SUFFIX
from compass.fleet.record import FLEET_NAME, FleetRecord, KindRecord, read_fleet, write_fleet
from compass.optimizer_config import OptimizerConfig
from compass.planning.request import Request
from compass.planning.session import scanned
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.probe.store import LEDGER, Store, read_ledger
from compass.profile import Profile, read_profile
from compass.records import Outcome, ProbeSpec
from compass.records.training import RUN_SPEC
from compass.training.checkpoints import Checkpoints, Progressed, read_checkpoint
from compass.training.run_spec import RunSpec, read_run_spec, write_run_spec
from compass.workloads.fixed import FixedModel
from compass.workloads.model_file import read_model, write_model

TRIES, SEED = 200, 7
OUTCOMES = ("refused", "noticed", "harmless", "silent", "raw")


@dataclass(frozen=True)
class Kind:
    """A kind of file, and how it is read: to a value that is equal if the content is, and None if it counts as missing."""

    name: str
    path: Path
    read: Callable[[], object]


class Listener(logging.Handler):
    """Counts the warnings that reading a damaged file logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.n = 0

    def emit(self, _: logging.LogRecord) -> None:
        """Count a warning; what it says does not matter."""
        self.n += 1


def try_flips(kind: Kind, n_tries: int, draw: random.Random) -> Counter[str]:
    """The outcomes of `n_tries` flips of one bit each; the file is whole again afterwards."""
    whole, expected = kind.path.read_bytes(), kind.read()
    if expected is None:
        raise ValueError(f"{kind.name}: the whole file cannot be read, so that no flip would tell anything")
    listener = Listener()
    logger = logging.getLogger("compass")
    logger.addHandler(listener)
    logger.propagate = False
    found: Counter[str] = Counter()
    for place in draw.sample(range(8 * len(whole)), n_tries):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        kind.path.write_bytes(damaged)
        listener.n = 0
        found[_outcome(kind, expected, listener)] += 1
    kind.path.write_bytes(whole)
    logger.removeHandler(listener)
    return found


def _outcome(kind: Kind, expected: object, listener: Listener) -> str:
    try:
        value = kind.read()
    except CompassError:
        return "refused"
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        print(f"    {kind.name}: {type(error).__name__}: {error}")
        return "raw"
    if value is None or listener.n:
        return "noticed"
    return "harmless" if value == expected else "silent"


# -------------------------------------------------------------------------------------------------------------- the files


def kinds(folder: Path) -> Iterator[Kind]:
    """A real file of every kind in `folder`."""
    with redirect_stdout(io.StringIO()):
        write_demo(folder / "demo", force=True)
    config = OptimizerConfig()
    dataset = config.dataset.model_copy(update={"path": str(folder / "demo" / "pdbbind")})
    request = scanned(
        Request(config=config.model_copy(update={"dataset": dataset}), cache=folder / "cache"), lambda _: None
    )
    catalogue = Path(request.config.dataset.catalogue)
    yield Kind("catalogue", catalogue, lambda: _scanned(catalogue))
    pack_graphs(request.config)
    (graphs,) = catalogue.parent.glob(f"*{SUFFIX}")
    digest, n_graphs = graphs.name.split(".")[-2], len(Catalogue.open(catalogue).usable)
    yield Kind("graph store", graphs, lambda: _graphs(graphs, digest, n_graphs))
    profile = _profile(folder)
    yield Kind("profile", folder / "p.json", lambda: read_profile(folder / "p.json").model_dump_json())
    (folder / "fleet").mkdir()
    write_fleet(_fleet(), folder / "fleet")
    yield Kind("fleet", folder / "fleet" / FLEET_NAME, lambda: read_fleet(folder / "fleet")[0])
    yield Kind("ledger", folder / LEDGER, lambda: _ledger(folder / LEDGER))
    spec = _run_spec(profile)
    write_run_spec(spec, folder / "run")
    yield Kind("run settings", folder / "run" / RUN_SPEC, lambda: read_run_spec(folder / "run").model_dump_json())
    weights = {"w": torch.randn(400, generator=torch.Generator().manual_seed(1))}
    path = Checkpoints(folder / "run" / "checkpoints", 1).write(spec, Progressed(n_batches=9), weights, {}, [])
    yield Kind("checkpoint", path, lambda: _checkpoint(path))
    model = folder / f"mine{MODEL_SUFFIX}"
    module = torch.nn.Linear(400, 1)
    write_model(model, FixedModel(module, DataLoader(range(100)), _loss))  # type: ignore[arg-type]
    yield Kind("model", model, lambda: _weights(model))


def _scanned(path: Path) -> object:
    catalogue = Catalogue.open(path)
    atoms = [catalogue.complex(row.id) for row in catalogue.usable]
    arrays = [(one.elements, one.positions, one.is_ligand) for one in atoms]
    return (
        catalogue.rows,
        catalogue.about,
        [tuple(np.asarray(array).tobytes() for array in arrays_) for arrays_ in arrays],
    )


def _graphs(path: Path, digest: str, n_graphs: int) -> object:
    try:
        store = GraphStore(path, digest)
    except (OSError, ValueError):
        return None
    graphs: list[Graph | None] = [store.read(number) for number in range(n_graphs)]
    if any(graph is None for graph in graphs):
        return None
    return [
        (one.elements.tobytes(), one.positions.tobytes(), one.is_ligand.tobytes(), one.edge_index.tobytes())
        for one in graphs
        if one is not None
    ]


def _fleet() -> FleetRecord:
    """A fleet of two kinds, none of which has a profile."""
    kinds = tuple(
        KindRecord(name=name, device=name.upper(), nodes=("n1", "n2"), price_per_hour=1.5, failure="no worker started")
        for name in ("a100", "t4")
    )
    return FleetRecord(compass_version="0.2.0", created="2026-12-01T00:00:00+00:00", engine="local", kinds=kinds)


def _ledger(path: Path) -> object:
    found = read_ledger(path)
    return None if found.n_damaged or found.n_older else [(key, spec.key, one) for key, spec, one in found.entries]


def _checkpoint(path: Path) -> object:
    content = read_checkpoint(path)
    return content["model"]["w"].tolist(), content["run_spec"], content["progressed"]


def _loss(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(model(batch)).mean()


def _weights(path: Path) -> object:
    model = read_model(path)
    return model._module.weight.tolist(), len(model.samples())  # noqa: SLF001 - nothing else shows them


def _profile(folder: Path) -> Profile:
    """A profile in `folder`, and the ledger of some of its probes."""
    runner = Recording(machine_named("RTX 3060 Laptop 6GB"))
    profile = compass.optimize(stages="smoke_test", out=folder / "p.json", runner=runner, dataset_size=5_000)
    store = Store(folder / LEDGER)
    for spec, outcome in runner.made[:20]:
        store.add(profile.fingerprint.key, spec, outcome)
    store.close()
    return profile


class Recording(SimulatedRunner):
    """A simulated machine that remembers its probes."""

    made: ClassVar[list[tuple[ProbeSpec, Outcome]]] = []

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Make a probe, and remember it."""
        outcome = super().probe(spec)
        self.made.append((spec, outcome))
        return outcome


def _run_spec(profile: Profile) -> RunSpec:
    plan = profile.plan("smoke_test")
    return RunSpec(
        plan=plan,
        workload=profile.workload,
        config=profile.config,
        fingerprint=profile.fingerprint,
        budget_bytes=plan.certificate.ceiling_bytes,
        batching="batch_size",
    )


def main() -> None:
    """Flip bits in every kind of file, and print the table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tries", type=int, default=TRIES, help="flips for each kind of file")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    table: dict[str, dict[str, int]] = {}
    print(f"{'':<14}" + "".join(f"{outcome:>10}" for outcome in OUTCOMES))
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds(Path(folder)):
            found = try_flips(kind, given.tries, random.Random(given.seed))
            table[kind.name] = {outcome: found[outcome] for outcome in OUTCOMES}
            print(f"{kind.name:<14}" + "".join(f"{found[outcome]:>10}" for outcome in OUTCOMES), flush=True)
    bad = sum(row["silent"] + row["raw"] for row in table.values())
    print(json.dumps({"tries": given.tries, "seed": given.seed, "kinds": table, "silent or raw": bad}))


if __name__ == "__main__":
    main()
