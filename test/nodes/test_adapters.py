"""LoRA adapters switched over the service: while answers stream, and those that do not fit."""

import threading

import pytest
import torch
from asker import TIMEOUT_S, asker_of
from peft import LoraConfig, get_peft_model

from sparseoccvla_ros.model.config import load_model_config
from sparseoccvla_ros.model.language import new_llm

QUESTION = 'What is ahead?'


def save_adapter(folder, **overrides):
    """An adapter that is heard, of the tiny model or of one that differs from it."""
    torch.manual_seed(3)
    lora = LoraConfig(r=4, target_modules=['q_proj', 'v_proj', 'down_proj'], task_type='CAUSAL_LM')
    adapted = get_peft_model(new_llm(load_model_config('tiny', overrides).language), lora)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if 'lora_' in name:
                parameter.normal_(0.0, 0.5)
    adapted.save_pretrained(folder)


@pytest.fixture
def asked(start_stack, tmp_path):
    save_adapter(tmp_path / 'night')
    save_adapter(tmp_path / 'of_another', **{'language.width': 128})
    return asker_of(start_stack(reasoning={'adapters_folder': str(tmp_path)}))


def test_an_adapter_is_set_and_taken_off_by_name(asked):
    assert list(asked.describe().adapters) == ['night', 'of_another']
    plain = asked.ask(QUESTION, max_tokens=8)
    assert asked.set_adapter('night').success
    assert asked.describe().adapter == 'night'
    adapted = asked.ask(QUESTION, max_tokens=8)
    assert adapted.success, 'the newest scene is still there'
    assert adapted.scene_stamp == plain.scene_stamp
    assert adapted.answer != plain.answer
    assert len(asked.describe().kept_scenes) == 1, 'the others were read with the old adapter'

    assert asked.set_adapter('').success
    assert asked.describe().adapter == ''
    assert asked.ask(QUESTION, max_tokens=8).answer == plain.answer
    asked.rig.run_cycle(2)
    assert asked.ask(QUESTION, max_tokens=4).success


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('../night', "no adapter '../night'; adapters here: night, of_another"),
        ('fog', "no adapter 'fog'; adapters here: night, of_another"),
        ('of_another', 'belongs to another model: base_model.model'),
    ],
    ids=['a path', 'unknown', 'of another model'],
)
def test_what_does_not_fit_is_refused_and_nothing_has_changed(asked, name, reason):
    plain = asked.ask(QUESTION, max_tokens=8)
    refused = asked.set_adapter(name)
    assert not refused.success
    assert reason in refused.message
    told = asked.describe()
    assert (told.adapter, len(told.kept_scenes)) == ('', 2)
    assert asked.ask(QUESTION, max_tokens=8).answer == plain.answer
    assert asked.set_adapter('night').success


def test_a_stream_ends_with_the_adapter_it_began_with(asked):
    plain = asked.ask('Describe the scene.', max_tokens=400)
    begun = threading.Event()
    handle = asked.stream('Describe the scene.', lambda piece: begun.set(), max_tokens=400)
    assert begun.wait(TIMEOUT_S)
    switched = asked.set_adapter_later('night')
    answers = (asked.ask(QUESTION, max_tokens=1) for _ in range(50))
    meanwhile = next(answer for answer in answers if not answer.success)  # two services: their order is open
    assert meanwhile.message == 'busy: the adapter is being switched'
    second = asked.set_adapter('')
    assert second.message == 'busy: another switch waits'
    assert asked.result(handle.get_result_async()).result.answer == plain.answer
    assert asked.result(switched).success
    assert asked.describe().adapter == 'night'
    assert asked.ask('Describe the scene.', max_tokens=400).answer != plain.answer
