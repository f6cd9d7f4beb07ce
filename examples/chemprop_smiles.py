"""Chemprop v2 on SMILES: a message-passing network on molecules, from a package that does not know Compass.

    pip install 'compass-optimizer[examples]'
    compass workload check examples/chemprop_smiles.py:Chemprop
    python examples/chemprop_smiles.py

Depth adds no weights here, because all message steps share them; so only the width is capacity and is searched.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from chemprop import featurizers, models, nn
from chemprop.data import BatchMolGraph
from rdkit import Chem

import compass

SMILES = (
    "CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "CC(=O)Nc1ccc(O)cc1", "CN1CCC[C@H]1c1cccnc1", "OC(=O)c1ccccc1Nc1cccc(C(F)(F)F)c1", "CCN(CC)CC(=O)Nc1c(C)cccc1C",
    "COc1ccc2[nH]c(nc2c1)S(=O)Cc1ncc(C)c(OC)c1C", "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1",
    "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21", "O=C(O)CCCCCCCCCCCCCCC",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "Clc1ccc(cc1)C(c1ccccc1)N1CCN(CC1)CCOCCO",
)  # fmt: skip
"""Drugs and small molecules; read your own dataset from a file instead."""


class Molecules:
    """A batch that can move to a device. Chemprop moves its graph in place."""

    def __init__(self, graph, targets):
        self.graph, self.targets = graph, targets

    def to(self, device):
        self.graph.to(device)
        return Molecules(self.graph, self.targets.to(device))


class Chemprop:
    """The workload: width is searched, depth is fixed."""

    features = ("molecules", "atoms", "bonds")  # molecules too: the readout has one row for each
    space = {"layers": (3, 3), "channels": (64, 512), "channel_step": 32}
    capacity = ("channels",)

    def __init__(self, config):
        featurize = featurizers.SimpleMoleculeMolGraphFeaturizer()
        self.graphs = {smiles: featurize(Chem.MolFromSmiles(smiles)) for smiles in SMILES}

    def samples(self):
        return {
            name: {"molecules": 1, "atoms": len(graph.V), "bonds": len(graph.E)} for name, graph in self.graphs.items()
        }

    def build(self, knobs):
        messages = nn.BondMessagePassing(d_h=knobs.channels, depth=knobs.layers)
        return models.MPNN(messages, nn.MeanAggregation(), nn.RegressionFFN(input_dim=messages.output_dim))

    def blocks(self, model):
        return []  # no repeated layers: all share their weights

    def collate(self, batch):
        graphs = [self.graphs[name] for name, copies in batch.members for _ in range(copies)]
        return Molecules(BatchMolGraph(graphs), torch.tensor([[float(len(graph.V))] for graph in graphs]))

    def loss(self, model, batch):
        return torch.nn.functional.mse_loss(model(batch.graph), batch.targets)


def main() -> None:
    """Make a prototyping plan under 1.5 GiB."""
    with TemporaryDirectory() as folder:
        profile = compass.optimize(
            Chemprop, stages=("prototyping",), dataset_size=10_000, memory_limit="1.5GiB",
            out=Path(folder) / "hardware_profile.json", cache=folder,
        )  # fmt: skip
    plan = profile.plans["prototyping"]
    print(
        f"{plan.choice.knobs}, batch {plan.choice.batch_size}: {plan.measured.throughput:.0f} molecules/s. {plan.why}"
    )


if __name__ == "__main__":
    main()
