"""Averages follow the weights, the sooner the earlier."""

import torch
from torch import nn

from sparseoccvla_ros.training.averaging import WeightAverage


def test_averages_are_the_recursion_with_a_rising_decay():
    module = nn.Linear(2, 1, bias=False)
    average = WeightAverage(module, 0.5)
    expected = module.weight.detach().clone()
    for step in range(1, 12):
        with torch.no_grad():
            module.weight.add_(float(step))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(average.state()['weight'], expected)
    average.apply()
    torch.testing.assert_close(module.weight.detach(), expected)


def test_statistics_of_batch_norms_are_averaged_with_the_weights_they_belong_to():
    module = nn.BatchNorm2d(1)
    average = WeightAverage(module, 0.5)
    module.train()(torch.full((2, 1, 2, 2), 30.0))
    own = module.running_mean.item()
    average.update(100)
    assert average.state()['running_mean'].item() == own / 2
    average.apply()
    assert module.running_mean.item() == own / 2


def test_only_weights_that_learn_are_averaged():
    module = nn.Linear(2, 1)
    module.bias.requires_grad_(False)
    assert list(WeightAverage(module, 0.9).state()) == ['weight']
