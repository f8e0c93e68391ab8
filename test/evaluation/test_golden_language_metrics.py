"""Language scores as pycocoevalcap, its Java programs and DriveLM's script give them."""

import json
import shutil

import numpy as np
import pytest

from sparseoccvla_ros.evaluation.drivelm_metrics import match_points
from sparseoccvla_ros.evaluation.language_metrics import METRICS, score_tokens, tokenized
from sparseoccvla_ros.evaluation.meteor import MeteorProcess
from sparseoccvla_ros.evaluation.tokenization import PTB, SIMPLE

pytestmark = pytest.mark.golden
SETS = ('single_reference', 'several_references')
JAVA = shutil.which('java')


@pytest.fixture(scope='module')
def golden(golden_dir):
    return json.loads((golden_dir / 'language_metrics.json').read_text())


@pytest.mark.parametrize('tokenizer', [PTB, SIMPLE])
@pytest.mark.parametrize('name', SETS)
def test_tokens(golden, name, tokenizer):
    if tokenizer == PTB and not JAVA:
        pytest.skip('the PTB tokenizer needs Java: apt install default-jre-headless')
    pairs, stored = golden[name]['pairs'], golden[name][tokenizer]
    references = [pair['references'] for pair in pairs]
    found = tokenized(references, [pair['hypothesis'] for pair in pairs], tokenizer)
    assert found == (stored['tokenized_references'], stored['tokenized_hypotheses'])


@pytest.mark.parametrize('tokenizer', [PTB, SIMPLE])
@pytest.mark.parametrize('name', SETS)
def test_bleu_rouge_and_cider(golden, name, tokenizer):
    stored = golden[name][tokenizer]
    found = score_tokens(stored['tokenized_references'], stored['tokenized_hypotheses'])
    others = [metric for metric in METRICS if metric != 'METEOR']
    assert set(stored['corpus']) == set(METRICS)
    assert set(found.corpus) == set(others)
    for metric in others:
        assert found.corpus[metric] == pytest.approx(stored['corpus'][metric], abs=1e-9), metric
        np.testing.assert_allclose(found.per_answer[metric], stored['per_sentence'][metric], rtol=0, atol=1e-9)


def test_meteor(golden):
    if not JAVA:
        pytest.skip('METEOR needs Java: apt install default-jre-headless')
    with MeteorProcess() as meteor:
        for name in SETS:
            for tokenizer in (PTB, SIMPLE):
                stored = golden[name][tokenizer]
                score, values = meteor.score(stored['tokenized_references'], stored['tokenized_hypotheses'])
                assert score == pytest.approx(stored['corpus']['METEOR'], abs=1e-6)
                np.testing.assert_allclose(values, stored['per_sentence']['METEOR'], rtol=0, atol=1e-6)


def test_drivelm_match(golden):
    assert golden['drivelm_match_f1']
    for case in golden['drivelm_match_f1']:
        matched, f1 = match_points(case['answer'], case['ground_truth'])
        assert [list(point) for point in matched] == case['matched']
        assert f1 == pytest.approx(case['F1'], abs=1e-9)


def test_the_punctuation_that_ptb_drops(golden):
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    assert golden['ptb_punctuation_removed'] == PUNCTUATIONS
