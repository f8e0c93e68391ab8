"""Every term of a batch reaches the parts that it is there to teach; stored queries give what computed ones do."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from sparseoccvla_ros.data.dataset import Augmentation, collate
from sparseoccvla_ros.data.scene_augmentation import SceneAugmentation
from sparseoccvla_ros.model.checkpoint import save_checkpoint
from sparseoccvla_ros.training.keyframes import keyframe_data, keyframe_stream
from sparseoccvla_ros.training.scene_objective import encode
from sparseoccvla_ros.training.stage import build_stage

CPU = Accelerator(cpu=True)
REACHED = {
    'occupancy': {'perception'},
    'forecast': {'perception', 'language'},
    'planner': {'perception', 'language', 'planner'},
    'answers': {'perception', 'language'},
    'reading': {'perception', 'language'},
}


def batch_of(stage, count: int = 4):
    return collate([stage.samples[position] for position in range(count)])


@pytest.mark.parametrize('name', REACHED)
def test_a_term_reaches_the_parts_before_it(recipe_of, name):
    recipe = recipe_of(losses={'reading': {'score_threshold': 0.0}})  # an untrained encoder is sure of nothing
    recipe = replace(recipe, terms=(name,), train=tuple(sorted(REACHED[name])))
    stage = build_stage(recipe, CPU)
    if name == 'planner':  # the correction's last layer starts at zero, behind which nothing learns in the first step
        torch.nn.init.normal_(stage.objective.planner.head.weight)
    terms = stage.objective(batch_of(stage, 8))  # all: few have 3 s ahead
    assert terms
    assert all(term.count > 0 for term in terms.values())
    sum(term.value for term in terms.values()).backward()
    reached = {
        key.split('.')[0] for key, p in stage.objective.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert reached == REACHED[name]


def test_a_new_forecaster_holds_the_present_still_and_a_trained_one_stays_as_it_is(recipe_of, tmp_path):
    new = build_stage(recipe_of(terms=['forecast'], train=['language.forecaster']), CPU)
    output = encode(new.parts['perception'], batch_of(new))
    prompt = new.parts['language'].scene_prompt(output.features, output.positions_m)
    hidden, _ = new.parts['language'].read_scene(prompt)
    for points_m, logits in new.parts['language'].forecast(
        prompt.at_queries(hidden), output.features, output.positions_m
    ):
        torch.testing.assert_close(points_m, output.points_m[-1], rtol=0, atol=1e-4)
        torch.testing.assert_close(logits, output.logits[-1], rtol=0, atol=1e-4)
    with torch.no_grad():
        new.parts['language'].forecaster.motion.bias.fill_(0.1)
    save_checkpoint(tmp_path / 'trained', new.parts, new.config)
    again = build_stage(recipe_of(f'start.language={tmp_path / "trained"}'), CPU)
    kept = again.parts['language'].forecaster.state_dict()
    for name, value in new.parts['language'].forecaster.state_dict().items():
        torch.testing.assert_close(kept[name], value, rtol=0, atol=0)


def test_terms_are_weighted(recipe_of):
    values = []
    for weight in (1.0, 0.25):
        recipe = recipe_of(terms=['answers'], train=['language'], losses={'weights': {'answers': weight}})
        stage = build_stage(recipe, CPU)
        values.append(stage.objective(batch_of(stage))['answers'].value.item())
    assert values[1] == pytest.approx(0.25 * values[0])


def test_keyframes_without_a_future_or_questions_count_nowhere(recipe_of):
    stage = build_stage(recipe_of(terms=['forecast', 'planner', 'answers'], train=['language', 'planner']), CPU)
    data = keyframe_data(recipe_of(), stage.config, Augmentation(), images=True)
    last = data.sample(len(data) - 1, 0) | {'questions': ()}
    terms = stage.objective(collate([last]))
    assert {name: term.count.item() for name, term in terms.items()} == dict.fromkeys(terms, 0.0)
    assert sum(term.value for term in terms.values()).item() == 0.0


def test_mirrored_keyframes_are_asked_nothing(recipe_of):
    recipe = recipe_of()
    config = recipe.model_config()
    counts = {}
    for probability in (0.0, 1.0):
        augmentation = Augmentation(scene=SceneAugmentation(flip_y_probability=probability))
        stream = keyframe_stream(recipe, keyframe_data(recipe, config, augmentation, images=True))
        counts[probability] = [len(stream[position]['questions']) for position in range(len(stream))]
    assert max(counts[0.0]) == recipe.data.questions_per_keyframe
    assert sum(counts[1.0]) == 0


def test_stored_queries_are_those_of_the_encoder(recipe_of, tmp_path):
    """As they are and mirrored, to the rounding of float16; and the folder is not taken for another encoder's."""
    flips = {'scene': {'flip_y_probability': 0.5}}
    settings = {'terms': ['answers'], 'train': ['language'], 'augmentation': flips}
    computed = build_stage(recipe_of(**settings), CPU)
    cache = f'data.query_cache={tmp_path / "queries"}'
    stored = build_stage(recipe_of(cache, **settings), CPU)
    assert 'images' not in stored.samples[0]
    mirrored = set()
    computed.objective.eval()
    for position in range(len(computed.samples)):
        item, kept = computed.samples[position], stored.samples[position]
        assert item['token'] == kept['token']
        with torch.no_grad():
            output = encode(computed.parts['perception'], collate([item]))
        torch.testing.assert_close(torch.from_numpy(kept['query_features']), output.features[0], atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(
            torch.from_numpy(kept['query_positions_m']), output.positions_m[0], atol=1e-4, rtol=1e-4
        )
        mirrored.add(item['augmented_from_ego'][1, 1] < 0)
    assert mirrored == {True, False}
    with pytest.raises(ValueError, match='of another encoder'):
        build_stage(recipe_of(cache, 'seed=1', **settings), CPU)
