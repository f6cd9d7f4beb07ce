"""MACE on small molecules with energies and forces: an equivariant potential from `mace-torch`.

pip install 'compass-optimizer[examples]'
compass workload check examples/mace_molecules.py:Mace
python examples/mace_molecules.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from ase.build import molecule

torch.serialization.add_safe_globals([slice])  # e3nn's tables hold slices, which torch loads only if listed (since 2.6)
from e3nn import o3
from mace import modules
from mace.data import AtomicData, Configuration
from mace.tools import AtomicNumberTable, torch_geometric

import compass

NAMES = ("H2O", "CH4", "CH3OH", "C2H6", "CH3CH2OH", "C6H6", "C5H5N", "CH3COOH", "C3H8", "C4H4NH", "trans-butane")
ELEMENTS = AtomicNumberTable([1, 6, 7, 8])
CUTOFF = 5.0


def featurize(name: str) -> AtomicData:
    """Return a molecule of ASE's collection. Its labels are plausible values; memory and time do not depend on them."""
    atoms = molecule(name)
    properties = {"energy": -1.0 * len(atoms), "forces": np.zeros((len(atoms), 3))}
    weights = dict.fromkeys(properties, 1.0)
    return AtomicData.from_config(Configuration(atoms.numbers, atoms.positions, properties, weights), ELEMENTS, CUTOFF)


class Molecules:
    """A batch as MACE expects it: a dictionary of tensors."""

    def __init__(self, fields):
        self.fields = fields

    def to(self, device):
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in self.fields.items()}
        return Molecules(moved)


class Mace:
    """The workload: two interactions, as published; the number of channels is searched."""

    noun = "molecules"
    features = ("atoms", "edges")
    space = {"layers": (2, 2), "channels": (16, 128), "data_cap": ((100, 100_000), (10_000, 1_000_000))}
    capacity = ("channels",)

    def __init__(self, config):
        self.molecules = {name: featurize(name) for name in NAMES}

    def samples(self):
        return {name: {"atoms": len(m.positions), "edges": m.edge_index.shape[1]} for name, m in self.molecules.items()}

    def build(self, knobs):
        interaction = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
        return modules.ScaleShiftMACE(
            r_max=CUTOFF, num_bessel=8, num_polynomial_cutoff=5, max_ell=2, correlation=2,
            interaction_cls=interaction, interaction_cls_first=interaction, num_interactions=knobs.layers,
            num_elements=len(ELEMENTS), atomic_numbers=list(ELEMENTS.zs), atomic_energies=np.zeros(len(ELEMENTS)),
            hidden_irreps=o3.Irreps(f"{knobs.channels}x0e + {knobs.channels}x1o"), MLP_irreps=o3.Irreps("16x0e"),
            avg_num_neighbors=8.0, gate=torch.nn.functional.silu, atomic_inter_scale=1.0, atomic_inter_shift=0.0,
        )  # fmt: skip

    def blocks(self, model):
        return [part for pair in zip(model.interactions, model.products, strict=True) for part in pair]

    def collate(self, batch):
        members = [self.molecules[name] for name, copies in batch.members for _ in range(copies)]
        return Molecules(torch_geometric.batch.Batch.from_data_list(members).to_dict())

    def loss(self, model, batch):
        with torch.enable_grad():  # forces are a gradient of the energy, also in validation
            found = model(batch.fields, training=True, compute_force=True)
        energies = (found["energy"] - batch.fields["energy"]).square().mean()
        return energies + (found["forces"] - batch.fields["forces"]).square().mean()


def main() -> None:
    """Make a prototyping plan under 2 GiB."""
    with TemporaryDirectory() as folder:
        profile = compass.optimize(
            Mace, stages=("prototyping",), dataset_size=5_000, memory_limit="2GiB",
            out=Path(folder) / "hardware_profile.json", cache=folder,
        )  # fmt: skip
    plan = profile.plans["prototyping"]
    print(
        f"{plan.choice.knobs}, batch {plan.choice.batch_size}: {plan.measured.throughput:.0f} molecules/s. {plan.why}"
    )


if __name__ == "__main__":
    main()
