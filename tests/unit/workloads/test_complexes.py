import torch

from compass.workloads.complexes import censored


def test_a_bound_costs_what_lies_on_its_wrong_side():
    error = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    bounds = torch.tensor([0.0, 0.0, 1.0, 1.0, -1.0])
    assert censored(error, bounds).tolist() == [1.0, -1.0, 0.0, -1.0, 2.0]
