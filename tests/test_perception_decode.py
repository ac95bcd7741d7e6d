"""Raw numbers to the contract: what is encoded comes back, repeated answers do not, every scene is valid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
import torch
from perception_samples import SMALL, ideal_outputs, sample_of, scene_of

from perception.calibration import Calibration
from perception.config import CLASSES, LINE_KINDS
from perception.data import join
from perception.decode import DecodeConfig, Decoded, decode
from perception.losses import line_targets, losses, middle
from perception.losses_lines import enclosed, point_orders
from perception.losses_parts import focal, heat_loss, heat_map, match
from perception.network import NetworkOutputs, PerceptionNetwork
from perception.raw_outputs import boxes, ego_motion
from perception.targets import encode, windowed
from planner.scene import AgentClass, PolylineType, VectorScene

AGENTS = [
    (12.0, 3.0, 0.4, 5.0, AgentClass.CAR),
    (-8.0, -7.5, 3.1, 1.0, AgentClass.PEDESTRIAN),
    (18.0, -2.0, -1.6, 0.0, AgentClass.TRUCK),
]
CPU = torch.device("cpu")


def decoded(outputs: NetworkOutputs, scene: VectorScene, **settings: float) -> Decoded:
    inputs = join([sample_of(AGENTS)], SMALL).inputs
    return decode(outputs, inputs, SMALL, DecodeConfig(**settings))  # type: ignore[arg-type]


def test_targets_encoded_then_decoded_give_the_scene_back() -> None:
    scene = scene_of(AGENTS)
    targets = encode(scene, SMALL)
    seen = decoded(ideal_outputs(targets), scene)
    agents = seen.agents[0]
    assert agents.valid.sum() == 3
    order = agents.agent_class[agents.valid].argsort(stable=True)
    told, true = agents.apply(lambda t: t[:3][order]), scene.agents.apply(lambda t: t[torch.tensor([0, 2, 1])])
    assert torch.allclose(told.box, true.box, atol=1e-5)
    assert torch.allclose(told.velocity, true.velocity, atol=1e-5)
    assert torch.equal(told.agent_class, true.agent_class)
    assert (told.existence > 0.999).all()
    futures = seen.futures[0].mean[:3][order][:, 0]
    assert torch.allclose(futures, scene.futures.mean[torch.tensor([0, 2, 1])][:, 0], atol=1e-4)
    likely = seen.futures[0].probability[:3]
    assert (likely[:, 0] > 0.999).all()
    assert torch.allclose(likely.sum(1), torch.ones(3).double())
    points, kinds = windowed(targets, SMALL)
    polylines = seen.map[0]
    kept = polylines.valid.any(-1)
    assert torch.allclose(polylines.xy[kept], torch.from_numpy(points), atol=1e-5)
    assert polylines.kind[kept].tolist() == [int(LINE_KINDS[k]) for k in kinds]
    scene.replace(agents=agents, futures=seen.futures[0], map=polylines, proposal=seen.proposal[0]).validate()


def test_ideal_outputs_cost_next_to_nothing() -> None:
    scene = scene_of(AGENTS)
    targets, inputs = encode(scene, SMALL), join([sample_of(AGENTS)], SMALL).inputs
    terms = losses(ideal_outputs(targets), [targets], line_targets([targets], SMALL, CPU), inputs, SMALL)
    for name in ("kind", "box", "mode", "line_kind", "line_shape", "ego"):
        assert float(terms[name]) < 0.02, name
    worse = ideal_outputs(targets)
    worse.agents.box[0, 0, 0] += 1.0
    more = losses(worse, [targets], line_targets([targets], SMALL, CPU), inputs, SMALL)
    assert float(more["box"] - terms["box"]) == pytest.approx(1 / 3, rel=0.01)


def test_of_two_answers_to_one_agent_the_surer_is_told() -> None:
    scene = scene_of(AGENTS)
    outputs = ideal_outputs(encode(scene, SMALL))
    for part in (outputs.agents.place, outputs.agents.box, outputs.agents.class_logit):
        part[0, 3] = part[0, 0]
    outputs.agents.class_logit[0, 3, 0] = 5.0
    outputs.agents.box[0, 3, 0] += 0.3
    outputs.lines.points[:, 0, 5] = outputs.lines.points[:, 0, 0] + 0.3
    outputs.lines.kind_logit[0, 5] = outputs.lines.kind_logit[0, 0] - 2.0
    seen = decoded(outputs, scene)
    assert int(seen.agents.valid.sum()) == 3
    assert not bool(seen.map.valid[0, 5].any())
    outputs.agents.box[0, 3, 0] += 3.0  # far enough away: somebody else
    outputs.lines.points[:, 0, 5] += 3.0
    seen = decoded(outputs, scene)
    assert int(seen.agents.valid.sum()) == 4
    assert bool(seen.map.valid[0, 5].all())


def test_an_empty_answer_is_an_empty_scene() -> None:
    scene = scene_of([])
    seen = decoded(ideal_outputs(encode(scene, SMALL)), scene)
    assert not seen.agents.valid.any()
    assert not seen.futures.valid.any()


def test_whatever_the_network_says_is_a_valid_scene() -> None:
    torch.manual_seed(0)
    network = PerceptionNetwork(SMALL)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.5)
    batch = join([sample_of(AGENTS), sample_of([], cameras=True)], SMALL)
    with torch.no_grad():
        outputs = network(batch.inputs)
    seen = decode(outputs, batch.inputs, SMALL, DecodeConfig(existence=0.0, line=0.0))
    for b in range(2):
        scene = scene_of([])
        scene.replace(
            agents=seen.agents[b], futures=seen.futures[b], map=seen.map[b], proposal=seen.proposal[b]
        ).validate()
        assert bool((seen.proposal[b].cost_weight > 0).all())


def test_covariances_lie_along_the_heading() -> None:
    scene = scene_of(AGENTS[:1])
    outputs = ideal_outputs(encode(scene, SMALL))
    outputs.agents.box[0, 0, 8:] = torch.tensor([0.0, -1.0])
    covariance = decoded(outputs, scene).agents.position_covariance[0, 0]
    along = torch.tensor([np.cos(0.4), np.sin(0.4)]).double()
    across = torch.tensor([-np.sin(0.4), np.cos(0.4)]).double()
    assert float(along @ covariance @ along) == pytest.approx(1.0, rel=1e-4)
    assert float(across @ covariance @ across) == pytest.approx(np.exp(-2.0), rel=1e-4)


def test_calibration_is_applied_where_it_says() -> None:
    scene = scene_of(AGENTS)
    outputs, inputs = ideal_outputs(encode(scene, SMALL)), join([sample_of(AGENTS)], SMALL).inputs
    table = [[1.0 + k + 0.1 * t for t in range(SMALL.steps)] for k in range(CLASSES)]
    facts = {"existence": [[0.5, -1.0]] * CLASSES, "mode": 2.0, "position": [3.0] * CLASSES, "future": table}
    plain = decode(outputs, inputs, SMALL)
    ours = decode(outputs, inputs, SMALL, calibration=Calibration.from_facts(facts))
    assert float(ours.agents.existence[0, 0]) == pytest.approx(1 / (1 + np.exp(-(0.5 * 9 - 1))), rel=1e-6)
    ratio = ours.agents.position_covariance[0, :3] / plain.agents.position_covariance[0, :3]
    assert torch.allclose(ratio.diagonal(dim1=-2, dim2=-1), torch.full((3, 2), 9.0).double(), rtol=1e-4)
    kind = int(ours.agents.agent_class[0, 1])
    own = lambda d: d.futures.covariance[0, 1, 0, 4] - d.agents.position_covariance[0, 1]  # noqa: E731
    assert torch.allclose(own(ours), own(plain) * (1.4 + kind) ** 2, rtol=1e-4, atol=1e-8)
    assert Calibration.from_facts(Calibration.from_facts(facts).facts()) == Calibration.from_facts(facts)
    with pytest.raises(ValueError, match=f"{CLASSES} classes"):
        Calibration.from_facts({**facts, "position": [1.0]})


def test_ego_follows_its_route_at_the_proposed_speed() -> None:
    inputs = join([sample_of(AGENTS)], SMALL).inputs
    motion = torch.zeros(1, SMALL.steps, 2)
    motion[..., 0], motion[..., 1] = 2.0, 0.5
    out = ego_motion(motion, inputs.route, inputs.ego, SMALL.horizon)
    time = torch.arange(1, SMALL.steps + 1) * 0.5
    # The first half second takes the mean of 6 and 8 m/s.
    assert torch.allclose(out.xy[0], torch.stack([8 * time - 0.5, torch.full_like(time, 0.5)], 1), atol=1e-4)
    ended = inputs.route.clone()
    ended[:, 4:] = ended[:, 4:5]
    assert torch.isfinite(ego_motion(motion, ended, inputs.ego, SMALL.horizon).xy).all()


def test_boxes_have_finite_gradients_where_nothing_is_said() -> None:
    raw = torch.zeros(1, 10, requires_grad=True)
    now = boxes(torch.zeros(1, 2), raw)
    (now.yaw.sum() + now.size.sum()).backward()
    assert torch.isfinite(raw.grad).all()


# -- parts of the losses ------------------------------------------------------------------------
def test_heat_maps_peak_in_the_cells_of_their_places() -> None:
    place = torch.tensor([[3.3, -2.1], [-9.9, 9.9]])
    heat = heat_map(torch.Size([2, 20, 20]), place, torch.tensor([1, 0]), torch.tensor([1.0, 1.0]), 10.0, 10.0)
    assert heat[1].argmax() == 13 * 20 + 7
    assert heat[0].argmax() == 0 * 20 + 19
    assert float(heat[1].max()) == 1.0 == float(heat[0].max())
    assert float(heat[1, 14, 7]) == pytest.approx(np.exp(-0.5))


def test_the_heat_loss_has_its_least_value_at_the_truth_and_forgives_what_is_hidden() -> None:
    wanted = torch.zeros(1, 4, 4)
    wanted[0, 1, 1] = 1.0
    judged = torch.ones(4, 4, dtype=torch.bool)
    right = torch.full((1, 4, 4), -8.0)
    right[0, 1, 1] = 8.0
    wrong = right.clone()
    wrong[0, 3, 3] = 8.0
    assert float(heat_loss(right, wanted, judged)) < 1e-6
    assert float(heat_loss(wrong, wanted, judged)) > 5
    judged[3, 3] = False
    assert float(heat_loss(wrong, wanted, judged)) < 1e-6


def test_focal_loss_at_known_points() -> None:
    assert float(focal(torch.tensor(0.0), torch.tensor(1.0))) == pytest.approx(0.25 * 0.25 * np.log(2))
    assert float(focal(torch.tensor(0.0), torch.tensor(0.0))) == pytest.approx(0.75 * 0.25 * np.log(2))


def test_matching_is_the_cheapest_of_the_possible() -> None:
    cost = torch.tensor([[1.0, 5.0], [0.9, 1.0], [0.1, 9.0]])
    possible = torch.ones(3, 2, dtype=torch.bool)
    rows, columns = match(cost, possible)
    assert sorted(zip(rows.tolist(), columns.tolist())) == [(1, 1), (2, 0)]
    possible[2, 0] = False
    rows, columns = match(cost, possible)
    assert sorted(zip(rows.tolist(), columns.tolist())) == [(0, 0), (1, 1)]
    assert len(match(cost, torch.zeros(3, 2, dtype=torch.bool))[0]) == 0


def test_what_a_ring_encloses_agrees_with_shapely(rng: np.random.Generator) -> None:
    angle = np.sort(rng.uniform(0, 2 * np.pi, (3, 11)), axis=1)
    rings = np.stack([np.cos(angle), np.sin(angle)], -1) * rng.uniform(1, 9, (3, 11, 1)) + rng.uniform(-5, 5, (3, 1, 2))
    rings = np.concatenate([rings, rings[:, :1]], 1)
    rings[2, -1] += 1.0  # no ring
    cells = rng.uniform(-12, 12, (2000, 2))
    found = enclosed(torch.from_numpy(cells), torch.from_numpy(rings)).numpy()
    for ring, said in zip(rings[:2], found):
        assert np.array_equal(said, shapely.contains_xy(shapely.Polygon(ring), *cells.T))
    assert found[:2].any(1).all()
    assert not found[2].any()


def test_orders_of_points_mean_the_same_line() -> None:
    line = torch.stack([torch.linspace(0, 9, 10), torch.zeros(10)], 1)
    angle = torch.linspace(0, 2 * torch.pi, 10)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    ring[-1] = ring[0]
    kinds = [LINE_KINDS.index(k) for k in (PolylineType.CENTERLINE, PolylineType.DIVIDER, PolylineType.CROSSING)]
    orders = point_orders(torch.stack([line, line, ring]), torch.tensor(kinds))
    backwards = lambda o: bool((o == line.flip(0)).all(-1).all(-1).any())  # noqa: E731
    assert not backwards(orders[0])
    assert backwards(orders[1])
    assert len({tuple(o.flatten().tolist()) for o in orders[2]}) == 18
    for order in orders[2]:
        assert torch.cdist(order, ring).amin(1).max() < 1e-6
        assert torch.equal(order[0], order[-1])
    assert torch.allclose(middle(torch.stack([line, ring])), torch.tensor([[4.5, 0.0], [0.0, 0.0]]), atol=1e-6)


def test_losses_of_a_batch_are_those_of_its_samples() -> None:
    torch.manual_seed(0)
    network = PerceptionNetwork(SMALL)
    samples = [sample_of(AGENTS), sample_of([], cameras=True), sample_of(AGENTS[:1], seed=4)]

    def terms(chosen):  # type: ignore[no-untyped-def]
        batch = join(chosen, SMALL)
        with torch.no_grad():
            outputs = network(batch.inputs)
        return losses(outputs, batch.targets, line_targets(batch.targets, SMALL, CPU), batch.inputs, SMALL)

    together = terms(samples)
    for b, sample in enumerate(samples):
        for name, value in terms([sample]).items():
            assert float(together[name][b]) == pytest.approx(float(value[0]), rel=2e-3, abs=2e-4), name


def test_who_no_sensor_saw_is_not_asked_for() -> None:
    scene = scene_of(AGENTS, seen=[True, False, True])
    targets = encode(scene, SMALL)
    assert targets.seen.tolist() == [True, False, True]
    inputs = join([sample_of(AGENTS)], SMALL).inputs
    full, without = ideal_outputs(targets), ideal_outputs(targets)
    without.agents.class_logit[0, 1] = -9.0
    drawn = line_targets([targets], SMALL, CPU)
    for outputs in (full, without):  # telling of it is no error either
        terms = losses(outputs, [targets], drawn, inputs, SMALL)
        assert float(terms["kind"]) < 0.01
    ghost = replace_place(full)
    assert float(losses(ghost, [targets], drawn, inputs, SMALL)["kind"]) > 1.0


def replace_place(outputs: NetworkOutputs) -> NetworkOutputs:
    """The unseen agent's answer moved to where nobody is."""
    place = outputs.agents.place.clone()
    place[0, 1] = torch.tensor([0.0, 20.0])
    return NetworkOutputs(replace(outputs.agents, place=place), outputs.lines, outputs.ego)


def test_an_error_ahead_is_held_against_what_was_said_of_ahead() -> None:
    """A car said 1 m too far along its heading, surer across: the Gaussian's own likelihood, now and later."""
    targets = encode(scene_of(AGENTS[:1]), SMALL)
    out = ideal_outputs(targets)
    out.agents.place[0, 0] += torch.tensor([np.cos(0.4), np.sin(0.4)]).float()
    out.agents.box[0, 0, 8:] = torch.tensor([0.5, 0.2]).log()
    out.agents.future[0, 0, :, :, 2:] = torch.tensor([1.0, 0.4]).log()
    inputs = join([sample_of(AGENTS[:1])], SMALL).inputs
    terms = losses(out, [targets], line_targets([targets], SMALL, CPU), inputs, SMALL)
    assert float(terms["sigma"]) == pytest.approx(np.log(0.5 * 0.2) + 0.5 * (1 / 0.5) ** 2, abs=1e-3)
    along = 0.2 + 0.5 * np.arange(1, SMALL.steps + 1) * (SMALL.horizon / SMALL.steps)
    expected = np.log(along * 0.4 * along) + 0.5 / along**2
    assert float(terms["forecast"]) == pytest.approx(expected.mean(), abs=1e-3)
