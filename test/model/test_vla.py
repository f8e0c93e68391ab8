"""The parts together, and their seeds."""

import torch

from sparseoccvla_ros.model.vla import build_language, build_perception, build_planner


def test_a_part_is_the_same_whatever_is_built_around_it(small):
    builds = {'perception': build_perception, 'language': build_language, 'planner': build_planner}
    together = {part: build(small, weights=None, seed=5) for part, build in builds.items()}
    for part in reversed(builds):
        torch.manual_seed(123)
        torch.rand(3)
        alone = builds[part](small, weights=None, seed=5)
        for (name, ours), theirs in zip(together[part].state_dict().items(), alone.state_dict().values(), strict=True):
            assert torch.equal(ours, theirs), name
    other = build_planner(small, weights=None, seed=6)
    assert not torch.equal(other.scorer[0].weight, together['planner'].scorer[0].weight)


def test_building_leaves_the_callers_random_state(small):
    torch.manual_seed(0)
    expected = torch.rand(4)
    torch.manual_seed(0)
    build_planner(small, weights=None, seed=5)
    assert torch.equal(torch.rand(4), expected)


def test_images_to_trajectories(small, ring):
    """The whole chain once; another image gives another scene, answer scores and forecast."""
    perception = build_perception(small, weights=None, seed=0)
    language = build_language(small, weights=None, seed=0)
    planner = build_planner(small, weights=None, seed=0)
    results = []
    for seed in (0, 1):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (12, 64, 96, 3), dtype=torch.uint8, generator=generator)
        with torch.inference_mode():
            levels = tuple(level.unflatten(0, (1, 12)) for level in perception.extract(images))
            output = perception.encode(levels, ring(6, 2), torch.ones(1, 12, dtype=torch.bool))
            scene = language.scene_prompt(output.features, output.positions_m)
            hidden, prefix = language.read_scene(scene)
            forecast = language.forecast(scene.at_queries(hidden), output.features, output.positions_m)
            prompt = language.embed_text(torch.tensor([language.planning_tokens()]))
            reasoning, _ = language.forward_embeddings(prompt, prefix)
            question = language.embed_text(torch.tensor([language.question_tokens([('What is ahead?', None)])]))
            answer = language.logits(language.forward_embeddings(question, prefix)[0][:, -1])
            plan = planner(
                output.features,
                output.positions_m,
                reasoning,
                torch.tensor([[5.0, 0.0, 0.0]]),
                torch.tensor([2]),
                torch.Generator().manual_seed(0),
            )
        results.append((output.features, forecast[2][1], reasoning, answer, plan.scores))
        assert plan.waypoints_ego_m.shape == (1, 18, 6, 2)
    for first, second in zip(*results, strict=True):
        assert first.isfinite().all()
        assert (first - second).abs().max() > 1e-5
