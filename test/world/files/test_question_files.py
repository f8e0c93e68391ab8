import json

import numpy as np
import pytest

from sparseoccvla_ros.data.nuscenes import NuScenesTables
from sparseoccvla_ros.world.files.facts_json import facts_from_json, facts_to_json
from sparseoccvla_ros.world.files.question_files import SceneQuestions, write_questions, write_splits
from sparseoccvla_ros.world.labels.facts import (
    Command,
    EgoFacts,
    KeyframeFacts,
    Option,
    Outcome,
    Reason,
    SeenObject,
    SeenSignal,
)

RNG = np.random.default_rng(5)


def facts(scene: int, keyframe: int) -> KeyframeFacts:
    """A keyframe with some cars, pedestrians and a light; all numbers are drawn."""
    objects = []
    for number in range(6):
        place = RNG.uniform(-20.0, 20.0, 2)
        is_car = number % 2 == 0
        seen = {'CAM_FRONT' if place[0] > 0.0 else 'CAM_BACK': int(RNG.integers(20, 400))}
        camera = next(iter(seen))
        objects.append(
            SeenObject(
                instance_token=f'{scene}-{number}',
                category='vehicle.car' if is_car else 'human.pedestrian.adult',
                label=4 if is_car else 7,
                paint=('red', 'blue', 'white', '')[RNG.integers(4)],
                position_m=place,
                size_m=(4.2, 1.8, 1.5) if is_car else (0.6, 0.6, 1.7),
                heading_rad=float(RNG.uniform(-3.0, 3.0)),
                velocity_mps=np.zeros(2),
                yaw_rate_radps=0.0,
                attribute='vehicle.parked' if is_car else 'pedestrian.standing',
                visible_px=seen,
                future_m=np.tile(place, (6, 1)),
                braking=False,
                indicator='',
                on_ground='sidewalk',
                pixel_px={camera: (800.5, 1.0 / 3.0)},
                box_px={camera: (1.0, 2.0, 3.0, 4.0)},
            )
        )
    bounds = {'CAM_FRONT': (0.0, 0.0, 2.0, 4.0)}
    light = SeenSignal('red', np.array([12.0, -3.0]), {'CAM_FRONT': 30}, {'CAM_FRONT': (1.0, 2.0)}, bounds)
    return KeyframeFacts(
        scene_token=f'scene {scene}',
        sample_token=f'sample {scene} {keyframe}',
        scene_name=f'scene-{scene + 1:04d}',
        stamp_ns=1_767_254_400_000_000_000 + keyframe,
        city='suburb',
        time_of_day=('day', 'dusk', 'night')[scene % 3],
        weather=('clear', 'rain', 'fog')[keyframe % 3],
        lanes=1 + scene % 2,
        bend='left',
        junction_m=None,
        crossing_m=3.25,
        work_zone_m=None,
        ground={'driveable_surface': 0.7, 'sidewalk': 0.3},
        objects=tuple(objects),
        signals=(light,),
        ego=EgoFacts(5.0, -1.0, 0.1, Command.LEFT, np.zeros((0, 2)), np.zeros(0), np.zeros(0), Reason.LEADER, 2),
        outcomes={
            Option.BRAKE: Outcome('driveable_surface', None, False, None),
            Option.LEFT: Outcome('sidewalk', 3, False, 1.2),
        },
    )


def same(first: object, second: object) -> bool:
    if isinstance(first, np.ndarray):
        return isinstance(second, np.ndarray) and first.shape == second.shape and bool((first == second).all())
    if isinstance(first, tuple):
        return isinstance(second, tuple) and len(first) == len(second) and all(map(same, first, second))
    if hasattr(first, '__dataclass_fields__'):
        return type(first) is type(second) and all(
            same(value, getattr(second, name)) for name, value in vars(first).items()
        )
    return type(first) is type(second) and first == second


def test_facts_come_back_from_json_as_they_were():
    one = facts(0, 0)
    back = facts_from_json(json.loads(json.dumps(facts_to_json(one))))
    for name, value in vars(one).items():
        assert same(value, getattr(back, name)), name
    assert same(one, back)


@pytest.fixture(scope='module')
def scenes() -> list[SceneQuestions]:
    made = []
    for scene in range(6):
        keyframes = [facts(scene, keyframe) for keyframe in range(8)]
        paths = {item.sample_token: {'CAM_FRONT': f'samples/CAM_FRONT/{item.stamp_ns}.jpg'} for item in keyframes}
        made.append(SceneQuestions.of(keyframes, paths, scene, seed=1))
    return made


def test_questions_of_a_scene_come_back_from_json(scenes):
    back = SceneQuestions.from_json(scenes[0].to_json())
    assert len(back.pairs) > 20
    assert back.pairs == scenes[0].pairs
    assert back.image_paths == scenes[0].image_paths
    assert same(back.facts, scenes[0].facts)


def test_both_forms_are_written_by_split(scenes, tmp_path):
    count = write_questions(tmp_path, len(scenes), 1, 16, lambda index: scenes[index].to_json())
    written = json.loads((tmp_path / 'questions/drivelm/train.json').read_text())
    val = json.loads((tmp_path / 'questions/drivelm/val.json').read_text())
    assert set(written) <= {f'scene {number}' for number in (0, 1, 2, 3, 5)}
    assert set(val) <= {'scene 4'}
    asked = sum(
        len(questions)
        for document in (written, val)
        for scene in document.values()
        for frame in scene['key_frames'].values()
        for questions in frame['QA'].values()
    )
    assert asked == count > 20
    for path in (tmp_path / 'questions/omnidrive').glob('*/*/*.json'):
        assert path.parent.name == ('val' if path.stem.startswith('sample 4') else 'train')
        json.loads(path.read_text())
    assert {path.name for path in (tmp_path / 'questions/omnidrive').iterdir()} >= {'conv'}


def test_scenes_are_split_by_number(tmp_path):
    write_splits(tmp_path, [f'scene-{number:04d}' for number in range(1, 11)])
    splits = json.loads((tmp_path / 'splits.json').read_text())
    assert splits['val'] == ['scene-0005', 'scene-0010']
    assert len(splits['train']) == 8


def test_the_files_of_a_data_set_name_its_own_samples_and_images(world):
    tables = NuScenesTables(world, 'v1.0-world')
    samples = {sample.token for name in tables.scene_names for sample in tables.scene(name).samples}
    splits = json.loads((world / 'splits.json').read_text())
    assert splits == {'train': ['scene-0001', 'scene-0002', 'scene-0003'], 'val': []}
    assert {path.stem for path in (world / 'questions').glob('omnidrive/*/train/*.json')} <= samples
    document = json.loads((world / 'questions/drivelm/train.json').read_text())
    for scene in document.values():
        assert set(scene['key_frames']) <= samples
        for frame in scene['key_frames'].values():
            assert len(frame['image_paths']) == 6
            assert all((world / path).is_file() for path in frame['image_paths'].values())
    assert json.loads((world / 'questions/drivelm/val.json').read_text()) == {}
