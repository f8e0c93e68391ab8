"""The benchmark of questions: it measures what it says, and refuses when the results differ."""

import pytest
import torch

from sparseoccvla_ros.evaluation import language_cost
from sparseoccvla_ros.evaluation.language_cost import LanguageBench, measure, table

SMALL = {
    'encoder.queries': 40,
    'language.width': 64,
    'language.ffn_width': 96,
    'language.layers': 2,
    'language.context_length': 1024,
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(language_cost, 'SIZES', {'tiny': SMALL})
    monkeypatch.setattr(language_cost, 'ANSWER_TOKENS', 4)


@pytest.fixture
def bench():
    bench = LanguageBench('tiny')
    yield bench
    bench.close()


def test_figures_of_one_size():
    cost = measure('tiny', repeats=1, scenes=4, threads=1)
    assert cost.queries == 40
    assert cost.prefix_tokens == 40 + 1 + 13
    assert cost.scene_mib == pytest.approx(2 * 2 * cost.prefix_tokens * 64 * 4 / 2**20)
    assert 0.0 < cost.idle_p50_ms <= cost.idle_p99_ms
    assert 0.0 < cost.streaming_p50_ms <= cost.streaming_p99_ms
    assert min(cost.first_token_ratio, cost.together_ratio, cost.apart_tokens_per_s, cost.round_ms) > 0.0
    lines = table([cost, cost]).splitlines()
    assert len({line.count('|') for line in lines}) == 1
    assert f'tiny: 40 queries, {cost.prefix_tokens} tokens' in lines[0]


def test_another_result_of_the_cache_is_not_timed(bench, monkeypatch):
    right = bench.cached
    monkeypatch.setattr(bench, 'cached', lambda text, scene: right(text, scene) + 2e-4)
    with pytest.raises(ArithmeticError, match='first token: the results differ by'):
        bench.first_token_ms(1)


def test_other_answers_at_once_are_not_timed(bench, monkeypatch):
    right = bench._answers

    def answers(stamps_ns, *, at_once):
        if at_once:
            return right(list(reversed(range(1, 5))), at_once=True)
        return right(stamps_ns, at_once=False)

    monkeypatch.setattr(bench, '_answers', answers)
    with pytest.raises(ArithmeticError, match='answers given at once are not those given in turn'):
        bench.tokens_per_s(1)


def test_non_finite_scores_are_a_difference(bench, monkeypatch):
    monkeypatch.setattr(bench, 'cached', lambda text, scene: torch.full((1536,), torch.nan))
    with pytest.raises(ArithmeticError, match='differ by nan'):
        bench.first_token_ms(1)


def test_answers_stream_while_scenes_are_read_and_end_with_the_block(bench):
    batch = bench.engine._answers.batch
    with bench.streaming():
        for scene in bench.scenes:  # after each scene one step: four answers have begun
            bench.read(scene)
        bench.read(bench.scenes[0])
        assert len(batch) > 0
    assert bench.ask('And now?', 1, 0).wait(20.0).success
    assert len(batch) == 0
