"""A language model on amino-acid sequences in plain PyTorch: a training script without Compass.

python examples/transformer/train.py
"""

import torch
from torch import nn

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
WINDOW = 128
MOTIFS = ("MKTAYIAKQR", "QISFVKSHFS", "RQLEERLGLI", "EVQAPILSRV", "GDGTQDNLSG", "AEKAVQVKVK")


def make_corpus(n_windows: int = 512) -> torch.Tensor:
    """Return letter numbers (n_windows, WINDOW + 1): motifs in random order, like the domains of a protein."""
    generator = torch.Generator().manual_seed(0)
    motifs = torch.tensor([[LETTERS.index(letter) for letter in motif] for motif in MOTIFS])
    drawn = torch.randint(len(MOTIFS), (n_windows, WINDOW // 10 + 1), generator=generator)
    return motifs[drawn].flatten(1)[:, : WINDOW + 1]


class Model(nn.Module):
    """A decoder-only transformer."""

    def __init__(self, layers: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS), width)
        self.places = nn.Embedding(4 * WINDOW, width)
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return scores (batch, n, letters) of the next letter at each of n positions."""
        n = tokens.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n, device=tokens.device)
        hidden = self.letters(tokens) + self.places(torch.arange(n, device=tokens.device))
        return self.head(self.encoder(hidden, mask=mask, is_causal=True))


def next_letter_loss(model: nn.Module, windows: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of every letter given the letters before it."""
    scores = model(windows[:, :-1])
    return nn.functional.cross_entropy(scores.flatten(0, 1), windows[:, 1:].flatten())


def main(layers: int = 4, width: int = 128, batch_size: int = 16, n_steps: int = 20) -> None:
    """Train for `n_steps` steps and print the loss."""
    corpus = make_corpus()
    model = Model(layers, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for step in range(n_steps):
        batch = corpus[torch.randint(len(corpus), (batch_size,))]
        optimizer.zero_grad()
        loss = next_letter_loss(model, batch)
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            print(f"step {step}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
