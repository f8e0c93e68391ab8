"""Every sample once an epoch, in the same order whoever asks, shared between processes without overlap."""

from itertools import islice

import pytest

from sparseoccvla_ros.training.order import StepBatches, epoch_order, sample_at


def test_an_epoch_has_each_sample_once_and_the_next_another_order():
    epochs = [[sample_at(position, 3, 10) for position in range(e * 10, e * 10 + 10)] for e in range(2)]
    for number, samples in enumerate(epochs):
        assert [epoch for epoch, _ in samples] == [number] * 10
        assert sorted(index for _, index in samples) == list(range(10))
    assert [i for _, i in epochs[0]] != [i for _, i in epochs[1]]
    assert epoch_order(3, 0, 10).tolist() != epoch_order(4, 0, 10).tolist()


@pytest.mark.parametrize('processes', [1, 2, 3])
def test_processes_together_see_what_one_with_their_batches_sees(processes):
    batches = [list(islice(StepBatches(0, 2, 1, p, processes), 5)) for p in range(processes)]
    together = [[i for p in range(processes) for i in batches[p][step]] for step in range(5)]
    assert together == list(islice(StepBatches(0, 2 * processes, 1, 0, 1), 5))


def test_a_resumed_row_goes_on_where_it_stopped():
    whole = list(islice(StepBatches(0, 2, 3, 1, 2), 12))
    assert list(islice(StepBatches(2, 2, 3, 1, 2), 6)) == whole[6:]
