"""The document of DriveLM: scenes, their keyframes, key objects and questions by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparseoccvla_ros.world.bodies.thing import BARRIER, OTHERS, PEDESTRIAN, TRAFFIC_CONE
from sparseoccvla_ros.world.labels.facts import KeyframeFacts, SeenObject, SeenSignal
from sparseoccvla_ros.world.questions.describe import scene_description
from sparseoccvla_ros.world.questions.generate import KINDS
from sparseoccvla_ros.world.questions.pair import Pair
from sparseoccvla_ros.world.questions.speech import noun, sentence, with_paint
from sparseoccvla_ros.world.questions.view import state_of

STAGES = ('perception', 'prediction', 'planning', 'behavior')
_LATER = {
    'future': 'prediction',
    'path': 'prediction',
    'counterfactual': 'planning',
    'plan': 'planning',
    'attention': 'planning',
    'trajectory': 'planning',
    'behaviour': 'behavior',
}
STAGE_OF_KIND = {kind: _LATER.get(kind, 'perception') for kind in KINDS}


def drivelm_document(
    pairs: Sequence[Pair], facts: Sequence[KeyframeFacts], image_paths: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """One document for all scenes of ``facts``, in which questions and answers refer to objects by their tags.

    Args:
        pairs: of any of the keyframes.
        facts: of all keyframes, scene by scene in order of time.
        image_paths: by sample token: by camera, the path of the image.

    Returns:
        ``{scene_token: {scene_description, key_frames: {sample_token: {key_object_infos, QA, image_paths}}}}``. A tag
        is ``<c1,CAM_FRONT,714.3,503.6>``: number, camera and middle in pixels of the full image of 1600x900.
    """
    by_sample: dict[str, list[Pair]] = {item.sample_token: [] for item in facts}
    by_scene: dict[str, list[KeyframeFacts]] = {}
    for item in facts:
        by_scene.setdefault(item.scene_token, []).append(item)
    for pair in pairs:
        by_sample[pair.sample_token].append(pair)
    return {
        token: {
            'scene_description': scene_description(keyframes),
            'key_frames': {
                item.sample_token: _keyframe(item, by_sample[item.sample_token], image_paths[item.sample_token])
                for item in keyframes
                if by_sample[item.sample_token]
            },
        }
        for token, keyframes in by_scene.items()
        if any(by_sample[item.sample_token] for item in keyframes)
    }


def _keyframe(facts: KeyframeFacts, pairs: Sequence[Pair], paths: Mapping[str, str]) -> dict[str, Any]:
    mentioned = dict.fromkeys(index for pair in pairs for _, index in pair.mentions)
    tags: dict[int, str] = {}
    infos = {}
    for number, index in enumerate(mentioned, start=1):
        item = facts.objects[index] if index >= 0 else facts.signals[-1 - index]
        camera = max(item.visible_px, key=lambda name: item.visible_px[name])
        x_px, y_px = item.pixel_px[camera]
        tags[index] = f'<c{number},{camera},{x_px:.1f},{y_px:.1f}>'
        bounds_px = [round(float(value), 1) for value in item.box_px[camera]]
        infos[tags[index]] = {**_info(item), '2d_bbox': bounds_px}
    stages: dict[str, list[dict[str, Any]]] = {stage: [] for stage in STAGES}
    for pair in pairs:
        stages[STAGE_OF_KIND[pair.kind]].append(
            {
                'Q': _tagged(pair.question, pair, tags),
                'A': _tagged(pair.answer, pair, tags),
                'C': None,
                'con_up': None,
                'con_down': None,
                'cluster': None,
                'layer': None,
            }
        )
    return {'key_object_infos': infos, 'QA': stages, 'image_paths': dict(paths)}


def _tagged(text: str, pair: Pair, tags: Mapping[int, str]) -> str:
    # Long phrases first: 'the car' may begin 'the car at (4.0, 1.0)'.
    for phrase, index in sorted(pair.mentions, key=lambda mention: -len(mention[0])):
        text = text.replace(phrase, tags[index]).replace(sentence(phrase), tags[index])
    return text


def _info(item: SeenObject | SeenSignal) -> dict[str, str | None]:
    if isinstance(item, SeenSignal):
        return {
            'Category': 'Traffic element',
            'Status': None,
            'Visual_description': f'{sentence(item.state)} light.',
        }
    category = 'Vehicle'
    if item.label == PEDESTRIAN:
        category = 'Pedestrian'
    elif item.label in (BARRIER, TRAFFIC_CONE, OTHERS):
        category = 'Traffic element' if item.label != OTHERS else 'Obstacle'
    state = state_of(item)
    return {
        'Category': category,
        'Status': {'moving': 'Moving', 'standing': 'Stationary', 'parked': 'Stationary'}.get(state or ''),
        'Visual_description': sentence(f'{with_paint(noun(item), item)}.'),
    }
