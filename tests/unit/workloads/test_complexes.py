import torch

from compass.optimizer_config import OptimizerConfig
from compass.workloads.complexes import OnComplexes, censored


def test_a_bound_costs_what_lies_on_its_wrong_side():
    error = torch.tensor([1.0, -1.0, 1.0, -1.0, 2.0])
    bounds = torch.tensor([0.0, 0.0, 1.0, 1.0, -1.0])
    assert censored(error, bounds).tolist() == [1.0, -1.0, 0.0, -1.0, 2.0]


class Silent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, batch):
        return self.weight * torch.zeros(len(batch))


def test_a_model_starts_at_the_mean_of_the_labels_and_keeps_it_with_its_weights():
    workload, model = OnComplexes(OptimizerConfig()), Silent()
    assert workload.predict(model, [1, 2]).tolist() == [0.0, 0.0]
    workload.start_at(model, 6.5)
    assert workload.predict(model, [1, 2]).tolist() == [6.5, 6.5]
    assert model.state_dict()["shift"] == 6.5
