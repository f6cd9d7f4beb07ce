"""Two gloo ranks with different loads, ceilings and threads have the gradient of one process."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="ceilings")]
RANK = Path(__file__).parent / "unequal_rank.py"
GIB = 1024**3


def test_the_gradient_of_unequal_ranks_is_that_of_one_process(tmp_path):
    unequal = ((3 * GIB, 2), (2 * GIB, 1))
    ranks = [
        subprocess.Popen([sys.executable, RANK, tmp_path, str(rank), str(ceiling), str(threads)])
        for rank, (ceiling, threads) in enumerate(unequal)
    ]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    spec = importlib.util.spec_from_file_location("unequal_rank", RANK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    alone = module.gradients_alone()
    for rank in range(2):
        for together, of_one in zip(torch.load(tmp_path / f"gradients-{rank}.pt"), alone, strict=True):
            assert float((together - of_one).abs().max()) <= 1e-6 * max(1.0, float(of_one.abs().max()))
