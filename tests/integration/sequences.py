"""Sequence workloads, right and wrong, for `path/to/file.py:factory`."""

import itertools

import torch

from compass.workloads.attention import attend

LENGTHS = (24, 40, 64, 96, 160)


class Layer(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inward = torch.nn.Linear(width, 3 * width)
        self.outward = torch.nn.Linear(width, width)

    def forward(self, rows, sizes):
        q, k, v = self.inward(rows).unflatten(-1, (3, 4, -1)).permute(1, 2, 0, 3).contiguous().unbind(0)
        return rows + self.outward(attend(q, k, v, sizes).transpose(0, 1).flatten(1))


class Model(torch.nn.Module):
    def __init__(self, layers, width):
        super().__init__()
        self.letters = torch.nn.Embedding(20, width)
        self.layers = torch.nn.ModuleList(Layer(width) for _ in range(layers))

    def forward(self, letters, sizes):
        rows = self.letters(letters)
        for layer in self.layers:
            rows = layer(rows, sizes)
        return rows


class Honest:
    """Attention within each sequence: memory grows with the square of its length, and it says so."""

    features = ("tokens", "tokens_squared")

    def __init__(self, config):
        pass

    def samples(self):
        return {str(n): {name: n**power for name, power in zip(self.features, (1, 2), strict=False)} for n in LENGTHS}

    def build(self, knobs):
        return Model(knobs.layers, knobs.channels)

    def collate(self, batch):
        sizes = [int(name) for name, copies in batch.members for _ in range(copies)]
        return {"letters": torch.arange(sum(sizes)) % 20, "sizes": sizes}

    def loss(self, model, batch):
        return model(batch["letters"], batch["sizes"]).square().mean()


class Undeclared(Honest):
    """The same, saying nothing of the square."""

    features = ("tokens",)


class Padded(Honest):
    """Every sequence filled up to the batch's longest, without attention."""

    features = ("tokens",)

    def collate(self, batch):
        found = super().collate(batch)
        return {"letters": torch.zeros(len(found["sizes"]) * max(found["sizes"]), dtype=torch.int64), "sizes": [1]}

    def loss(self, model, batch):
        rows = model.letters(batch["letters"])
        for layer in model.layers:
            rows = rows + layer.outward(torch.relu(layer.outward(rows)))
        return rows.square().mean()


class Declared(Padded):
    """The same, and says so."""

    padded = "tokens"


class Careless(Honest):
    """Draws from an unseeded source, makes a part of the model at its first batch, and keeps its results."""

    drawn = itertools.count()

    def __init__(self, config):
        self.history = []

    def loss(self, model, batch):
        if not hasattr(model, "head"):
            model.head = torch.nn.Linear(3, 3)
        rows = model(batch["letters"], batch["sizes"])
        self.history.append(rows.detach())
        return rows.square().mean() * (1 + next(self.drawn))


class Broken(Honest):
    """Makes a mistake in its own code."""

    def loss(self, model, batch):
        return model(batch["lettres"], batch["sizes"])
