"""Stored queries: interrupted runs, several processes, and folders of something else."""

import numpy as np
import pytest
import torch

from sparseoccvla_ros.training import query_cache
from sparseoccvla_ros.training.query_cache import QueryCache, fill_query_cache, make_query_cache

TOKENS = [f'keyframe {number}' for number in range(7)]
QUERIES, CHANNELS = 3, 4


class Encoder:
    """Tells keyframes and mirror images apart, remembers what it was asked, and may fail."""

    def __init__(self, fails_at=None):
        self.asked, self.fails_at = [], fails_at

    def __call__(self, indices, mirrored):
        if self.fails_at in indices:
            raise RuntimeError('killed')
        self.asked += [(index, mirrored) for index in indices]
        values = torch.tensor([index + 0.5 * mirrored for index in indices])[:, None, None]
        return values.expand(-1, QUERIES, CHANNELS), -values.expand(-1, QUERIES, 3)


@pytest.fixture(autouse=True)
def blocks_of_two(monkeypatch):
    monkeypatch.setattr(query_cache, 'BLOCK', 2)


@pytest.fixture
def folder(tmp_path):
    make_query_cache(tmp_path / 'queries', 'key', len(TOKENS), (QUERIES, CHANNELS), mirror=True)
    return tmp_path / 'queries'


def assert_whole(cache):
    for number, token in enumerate(TOKENS):
        for mirrored in (False, True):
            features, positions_m = cache.read(token, mirrored)
            assert np.array_equal(features, np.full((QUERIES, CHANNELS), number + 0.5 * mirrored))
            assert np.array_equal(positions_m, np.full((QUERIES, 3), -(number + 0.5 * mirrored)))


def test_an_interrupted_run_goes_on_where_it_stopped(folder):
    with pytest.raises(RuntimeError, match='killed'):
        fill_query_cache(folder, TOKENS, Encoder(fails_at=5))
    make_query_cache(folder, 'key', len(TOKENS), (QUERIES, CHANNELS), mirror=True)
    later = Encoder()
    assert_whole(fill_query_cache(folder, TOKENS, later))
    assert {index for index, _ in later.asked} == {4, 5, 6}
    nothing = Encoder()
    assert_whole(fill_query_cache(folder, TOKENS, nothing))
    assert nothing.asked == []


def test_who_wants_no_mirror_images_still_computes_them_for_files_that_have_them(folder):
    """Else a later run would take their empty halves for done."""
    make_query_cache(folder, 'key', len(TOKENS), (QUERIES, CHANNELS), mirror=False)
    assert_whole(fill_query_cache(folder, TOKENS, Encoder()))


def test_processes_share_the_work(folder):
    """Each does blocks of its own, whatever the others have done by then; a run of another number of them goes on."""
    first, second = Encoder(), Encoder(fails_at=6)
    fill_query_cache(folder, TOKENS, first, 0, 2)
    with pytest.raises(RuntimeError, match='killed'):
        fill_query_cache(folder, TOKENS, second, 1, 2)
    assert {index for index, _ in first.asked} == {0, 1, 4, 5}
    assert {index for index, _ in second.asked} == {2, 3}
    for process in range(3):
        fill_query_cache(folder, TOKENS, Encoder(), process, 3)
    assert_whole(QueryCache(folder, TOKENS))


@pytest.mark.parametrize(('key', 'made_mirrored', 'mirror'), [('other', True, True), ('key', False, True)])
def test_other_queries_are_not_taken(tmp_path, key, made_mirrored, mirror):
    make_query_cache(tmp_path, 'key', len(TOKENS), (QUERIES, CHANNELS), made_mirrored)
    with pytest.raises(ValueError, match='of another encoder'):
        make_query_cache(tmp_path, key, len(TOKENS), (QUERIES, CHANNELS), mirror)
