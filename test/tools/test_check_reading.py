"""What the tool asks is answered as on the car, and what it prints is the share and the middle of the errors."""

import math

import check_reading as tool
import pytest
import torch

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.vla import build_language
from sparseoccvla_ros.training.reading_loss import said


def test_the_answer_is_the_likeliest_token_each_time():
    language = build_language(load_model_config('tiny'), weights=None, seed=1)
    with torch.inference_mode():
        prompt = language.scene_prompt(torch.randn(1, 300, 128), torch.randn(1, 300, 3))
        answer = tool.greedy_answer(language, language.read_scene(prompt)[1], 'Where is it?')
        tokens, said_tokens = language.question_tokens([('Where is it?', None)]), []
        while len(said_tokens) < tool.LONGEST_ANSWER:  # the whole prompt anew for every token
            hidden, _ = language.read_scene(prompt, language.embed_text(torch.tensor([tokens + said_tokens])))
            said_tokens.append(int(language.logits(hidden[0, -1]).argmax()))
            if said_tokens[-1] == language.tokenizer.eos_token_id:
                said_tokens.pop()
                break
    assert said_tokens
    assert answer == language.tokenizer.decode(said_tokens)


@pytest.mark.parametrize('position_m', [(12.3, -4.5), (-0.04, 40.0), (-12.0, 0.0)])
def test_places_are_found_in_answers(position_m):
    found = tool.PLACE.search(f'The nearest car is at {said(*position_m)}.')
    assert [float(value) for value in found.groups()] == pytest.approx(position_m, abs=0.05)


def test_shares_and_medians_count_answers_without_a_place(capsys):
    tool.show({'car': [0.5, 1.0, math.inf, 3.0], 'bus': [math.inf]})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ['│', 'car', '│', '4', '│', '50', '│', '3.0', '│'] in lines
    assert ['│', 'bus', '│', '1', '│', '0', '│', 'inf', '│'] in lines
    assert any(line[1:5] == ['mean', 'of', 'the', 'classes'] and '25' in line for line in lines)
