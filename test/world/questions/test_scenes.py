"""Questions about real scenes, with facts as extracted but for the images: everything near counts as seen."""

from dataclasses import replace

import numpy as np
import pytest

from sparseoccvla_ros.world.bodies.thing import Lamps
from sparseoccvla_ros.world.ego_car import EGO_CENTRE_AHEAD_M, EGO_SIZE_M
from sparseoccvla_ros.world.labels.extraction import KeyframeTokens, Sighting, keyframe_facts
from sparseoccvla_ros.world.labels.facts import KeyframeFacts, Option
from sparseoccvla_ros.world.labels.what_if import WhatIf
from sparseoccvla_ros.world.questions.counterfactual import counterfactual_drafts
from sparseoccvla_ros.world.questions.motion import light_drafts, light_or_none_drafts
from sparseoccvla_ros.world.questions.predict import path_drafts
from sparseoccvla_ros.world.questions.view import View
from sparseoccvla_ros.world.scene import Scene
from sparseoccvla_ros.world.stage import WARM_UP_S
from sparseoccvla_ros.world.traffic.trip import GateKind

STEP_S, NEAR_M = 2.0, 45.0
SEEN = Sighting({'CAM_FRONT': 50}, {'CAM_FRONT': (800.0, 400.0)}, {'CAM_FRONT': (790.0, 380.0, 810.0, 420.0)}, 50)


def facts_at(scene: Scene, what_if: WhatIf, time_s: float) -> KeyframeFacts:
    ego_m = scene.world_from_ego(time_s)[:2, 3]
    seen = {
        index: SEEN
        for index, thing in enumerate(scene.things)
        if np.hypot(*(thing.state_at(time_s).world_from_object[:2, 3] - ego_m)) < NEAR_M
    }
    tokens = KeyframeTokens(scene.name, f'{scene.name} {time_s}', 0, {index: str(index) for index in seen})
    return keyframe_facts(scene, time_s, (), seen, tokens, what_if)


@pytest.fixture(scope='module')
def keyframes(scenes) -> list[tuple[Scene, float, KeyframeFacts]]:
    found = []
    for scene in scenes:
        what_if = WhatIf(scene)
        found += [(scene, time_s, facts_at(scene, what_if, time_s)) for time_s in np.arange(0.0, 17.0, STEP_S)]
    return found


def test_lights_are_those_that_the_lamps_show(keyframes):
    asked, none = 0, 0
    for scene, time_s, facts in keyframes:
        view = View(facts)
        for draft in (
            *light_drafts(view, np.random.default_rng(0)),
            *light_or_none_drafts(view, np.random.default_rng(0)),
        ):
            heads = scene.signal_heads(time_s)
            if draft.key == 'none':
                assert facts.junction_m is None or facts.junction_m > 5.0
                none += 1
                continue
            lamps = {scene.things[index].state_at(time_s).lamps for index in heads}
            assert {lamp & (Lamps.RED | Lamps.AMBER | Lamps.GREEN) for lamp in lamps} == {
                Lamps[draft.key.split(',')[0].upper()]
            }
            asked += 1
    assert asked >= 6
    assert none >= 3


def test_paths_are_crossed_and_are_not(keyframes):
    keys = [
        draft.key.split(',')[0]
        for _, _, facts in keyframes
        for draft in path_drafts(View(facts), np.random.default_rng(0))
    ]
    assert min(keys.count('yes'), keys.count('no')) >= 5


def test_driving_on_at_a_red_light_is_never_safe(keyframes):
    ran = 0
    for _, _, facts in keyframes:
        for option, outcome in facts.outcomes.items():
            only = {'outcomes': {option: outcome}}
            drafts = counterfactual_drafts(View(KeyframeFacts(**{**facts.__dict__, **only})), np.random.default_rng(0))
            if outcome.runs_red or outcome.light_unsure:
                assert all('red light' in draft.answer and draft.key != 'safe' for draft in drafts)
                ran += bool(drafts) and option is Option.ACCELERATE
    assert ran >= 1


def test_who_speeds_up_towards_a_line_at_red_is_never_safe(keyframes):
    # Told from the gates and the lamp of now alone, by other means than the rollouts.
    reached = 0
    for scene, time_s, facts in keyframes:
        s_m, speed_mps, _ = scene.simulation.vehicle_at(0, time_s + WARM_UP_S)
        front_m = s_m + EGO_CENTRE_AHEAD_M + 0.5 * EGO_SIZE_M[0]
        reach_m = 3.0 * speed_mps + 0.5 * 2.5 * 3.0**2 - 2.0
        for gate in scene.stage.traffic[0].vehicle.trip.gates:
            if gate.kind is not GateKind.SIGNAL or not 0.0 < gate.s_m - front_m < reach_m:
                continue
            lamp = scene.plan.junctions[gate.number].signal.lamp(gate.approach, time_s + WARM_UP_S)
            if lamp is Lamps.RED and Option.ACCELERATE in facts.outcomes:
                only = replace(facts, outcomes={Option.ACCELERATE: facts.outcomes[Option.ACCELERATE]})
                keys = [draft.key for draft in counterfactual_drafts(View(only), np.random.default_rng(0))]
                assert 'safe' not in keys
                reached += 1
    assert reached >= 3


def test_the_recorded_ego_never_drives_at_red(scenes):
    # What KEEP does at a constant speed, the ego does in truth.
    for scene in scenes:
        what_if = WhatIf(scene)
        for time_s in np.arange(0.0, 17.0, STEP_S):
            speeds = [scene.ego_motion(time_s + later_s).speed_mps for later_s in np.arange(0.0, 3.1, 0.25)]
            if np.ptp(speeds) < 0.05:
                assert not what_if.roll_out(time_s)[Option.KEEP].runs_red


def test_yaw_rates_are_those_of_the_recent_past(keyframes):
    turning = 0
    for scene, time_s, facts in keyframes:
        for item in facts.objects:
            thing = scene.things[int(item.instance_token)]
            axes = [thing.state_at(time_s - back_s).world_from_object[:2, 0] for back_s in (0.2, 0.0)]
            turned_rad = np.arctan2(axes[0][0] * axes[1][1] - axes[0][1] * axes[1][0], axes[0] @ axes[1])
            assert item.yaw_rate_radps * 0.2 == pytest.approx(turned_rad, abs=1e-6)
            turning += abs(item.yaw_rate_radps) > 0.17
    assert turning >= 1
