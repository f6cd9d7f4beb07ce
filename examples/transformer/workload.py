"""The training script beside this file as a workload: these lines are the whole addition.

compass workload check examples/transformer/workload.py:Transformer
compass optimize --workload examples/transformer/workload.py:Transformer --dataset-size 50000
"""

from train import Model, make_corpus, next_letter_loss


class Transformer:
    features = ("tokens", "tokens_squared")
    space = {"layers": (2, 8), "channels": (32, 256), "options": {"heads": 4}}
    micro_loads = [{"tokens": b * n, "tokens_squared": b * n * n} for b, n in ((4, 32), (16, 32), (4, 64), (4, 128))]

    def __init__(self, config):
        self.corpus = make_corpus()

    def samples(self):
        return {"window": {"tokens": 128, "tokens_squared": 128 * 128}}

    def build(self, knobs):
        return Model(knobs.layers, knobs.channels, knobs.variant.option("heads"))

    def collate(self, batch):
        if batch.synthetic:
            n = int(batch.synthetic["tokens_squared"] / batch.synthetic["tokens"])
            return self.corpus[: int(batch.synthetic["tokens"] / n), : n + 1]
        return self.corpus[: sum(copies for _, copies in batch.members)]

    def loss(self, model, batch):
        return next_letter_loss(model, batch)
