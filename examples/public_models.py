"""Models of other people, each a class of a few lines; weights are new, nothing is downloaded.

    compass workload check examples/public_models.py:AttentiveFP
    compass optimize --workload examples/public_models.py:PNA --stages production --dataset-size 20000
    python examples/public_models.py

Graphs are those of SMILES by PyG. `EGNN` needs `pip install egnn-pytorch`; `BERT` and `ESM` need `transformers`; `Encoder` needs `x-transformers`.
`python -m benchmarks.public_models` plans all of them; the table is in docs/benchmarks.md.
"""

from tempfile import TemporaryDirectory

import torch
from torch_geometric import nn
from torch_geometric.data import Batch
from torch_geometric.utils import from_smiles

import compass

SMILES = (
    "CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "CN1CCC[C@H]1c1cccnc1", "OC(=O)c1ccccc1Nc1cccc(C(F)(F)F)c1", "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1", "O=C(O)CCCCCCCCCCCCCCC",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "Clc1ccc(cc1)C(c1ccccc1)N1CCN(CC1)CCOCCO",
)  # fmt: skip
LENGTHS = {f"protein {i}": 40 + (i * 53) % 260 for i in range(60)}
DEGREES = torch.tensor([0, 40, 60, 30, 3])
"""Of atoms in molecules, which PNA scales by."""


# ------------------------------------------------------------------------------------------------ graphs of molecules


class Molecules:
    """SMILES as graphs, and the squared error of one number for each."""

    features = ("molecules", "atoms", "bonds")
    noun = "molecules"
    space = {"layers": (2, 6), "channels": (32, 256)}

    def __init__(self):
        self.graphs = {smiles: from_smiles(smiles) for smiles in SMILES}

    def samples(self):
        return {name: {"molecules": 1, "atoms": g.num_nodes, "bonds": g.num_edges} for name, g in self.graphs.items()}

    def collate(self, batch):
        return Batch.from_data_list([self.graphs[name] for name, copies in batch.members for _ in range(copies)])

    def loss(self, model, batch):
        return model(batch).square().mean()


class Readout(torch.nn.Module):
    """Atoms → one of PyG's graph networks → one number for each molecule."""

    def __init__(self, body, width):
        super().__init__()
        self.atoms, self.body, self.head = torch.nn.Linear(9, width), body, torch.nn.Linear(width, 1)

    def forward(self, g):
        edges = {"edge_attr": g.edge_attr.float()} if self.body.supports_edge_attr else {}
        rows = self.body(self.atoms(g.x.float()), g.edge_index, **edges)
        return self.head(nn.global_add_pool(rows, g.batch)).squeeze(-1)


class GIN(Molecules):
    """Xu et al. 2019, from PyG."""

    def build(self, knobs):
        width = knobs.channels
        return Readout(nn.GIN(width, width, knobs.layers), width)


class GATv2(Molecules):
    """Brody et al. 2022, from PyG; the number of heads is searched."""

    space = {**Molecules.space, "options": {"heads": (4, 8)}}

    def build(self, knobs):
        width, heads = knobs.channels, knobs.variant.option("heads")
        return Readout(nn.GAT(width, width, knobs.layers, v2=True, heads=heads, edge_dim=3), width)


class PNA(Molecules):
    """Corso et al. 2020, from PyG, with batch normalisation."""

    def build(self, knobs):
        width, rules = (
            knobs.channels,
            {"aggregators": ["mean", "min", "max", "std"], "scalers": ["identity", "amplification"]},
        )
        body = nn.PNA(width, width, knobs.layers, norm="batch_norm", edge_dim=3, towers=4, deg=DEGREES, **rules)
        return Readout(body, width)


class AttentiveFP(Molecules):
    """Xiong et al. 2020, from PyG."""

    def build(self, knobs):
        return nn.AttentiveFP(9, knobs.channels, 1, edge_dim=3, num_layers=knobs.layers, num_timesteps=2)

    def loss(self, model, g):
        return model(g.x.float(), g.edge_index, g.edge_attr.float(), g.batch).square().mean()


class EGNN(Molecules):
    """Satorras et al. 2021, as egnn-pytorch has it: dense, so that molecules are padded and all pairs of atoms are edges."""

    features = padded = ("atoms", "pairs")
    space = {"layers": (2, 5), "channels": (32, 128)}

    def samples(self):
        return {name: {"atoms": g.num_nodes, "pairs": g.num_nodes**2} for name, g in self.graphs.items()}

    def build(self, knobs):
        from egnn_pytorch import EGNN_Network

        return EGNN_Network(num_tokens=120, dim=knobs.channels, depth=knobs.layers)

    def collate(self, batch):
        graphs = [self.graphs[name] for name, copies in batch.members for _ in range(copies)]
        numbers = torch.nn.utils.rnn.pad_sequence([g.x[:, 0] for g in graphs], batch_first=True)
        return {
            "feats": numbers,
            "coors": torch.arange(numbers.numel() * 3.0).reshape(*numbers.shape, 3) % 7,
            "mask": numbers > 0,
        }

    def loss(self, model, batch):
        rows, _ = model(**batch)
        return rows.square().mean()


# --------------------------------------------------------------------------------------------------------- sequences


class Proteins:
    """Sequences of residues, padded to the longest of a batch."""

    features = padded = ("residues", "residues_squared")
    noun = "proteins"
    space = {"layers": (2, 6), "channels": (32, 192), "options": {"heads": 4}}

    def samples(self):
        return {name: {"residues": n, "residues_squared": n * n} for name, n in LENGTHS.items()}

    def collate(self, batch):
        lengths = torch.tensor([LENGTHS[name] for name, copies in batch.members for _ in range(copies)])
        mask = torch.arange(int(lengths.max()))[None] < lengths[:, None]
        return {"input_ids": mask.long() * 7, "attention_mask": mask.long()}

    def loss(self, model, batch):
        return model(**batch).last_hidden_state.square().mean()


class BERT(Proteins):
    """Devlin et al. 2019, from transformers."""

    def build(self, knobs):
        from transformers import BertConfig, BertModel

        heads, width = knobs.variant.option("heads"), knobs.channels
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": knobs.layers}
        return BertModel(BertConfig(vocab_size=30, num_attention_heads=heads, **sizes), add_pooling_layer=False)


class ESM(Proteins):
    """Lin et al. 2023, from transformers."""

    def build(self, knobs):
        from transformers import EsmConfig, EsmModel

        heads, width = knobs.variant.option("heads"), knobs.channels
        sizes = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": knobs.layers}
        rules = {"pad_token_id": 1, "mask_token_id": 2, "position_embedding_type": "rotary"}
        return EsmModel(EsmConfig(vocab_size=33, num_attention_heads=heads, **sizes, **rules), add_pooling_layer=False)


class Encoder(Proteins):
    """The encoder of x-transformers."""

    def build(self, knobs):
        from x_transformers import Encoder as Layers
        from x_transformers import TransformerWrapper

        layers = Layers(dim=knobs.channels, depth=knobs.layers, heads=knobs.variant.option("heads"), attn_dim_head=16)
        return TransformerWrapper(num_tokens=30, max_seq_len=512, attn_layers=layers)

    def loss(self, model, batch):
        return model(batch["input_ids"], mask=batch["attention_mask"].bool()).square().mean()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        profile = compass.optimize(
            GIN, stages="smoke_test", dataset_size=20_000, memory_limit="4GiB", out=f"{folder}/p.json", cache=folder
        )
    print(profile)
