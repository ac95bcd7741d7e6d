"""Learned perception in the loop: what comes from where, one LiDAR for both channels, names that say who perceived."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from perception_samples import SMALL

from eval.baselines import ConstantVelocity
from eval.commands.drive import drive, with_network_at_hand
from eval.commands.perception_loop import perception_loop
from eval.config import RunConfig, load_config
from eval.run.heap import frozen_heap
from eval.run.samples import Sample
from eval.run.task import Task, run_task
from eval.simulation.generate import generate
from eval.simulation.injection import Injection
from eval.simulation.observer_config import NetworkObserverConfig, ObserverConfig
from eval.simulation.observers import (
    NetworkObserver,
    describe,
    make_observer,
    rule_futures,
    sensor_config,
)
from eval.simulation.rollout import Observer, rollout
from eval.simulation.sensors import SensorConfig
from eval.simulation.simulation_config import SimulationConfig
from eval.simulation.trace import Trace
from eval.simulation.vehicle_sensors import VehicleSensors
from eval.simulation.world import World
from eval.typed_config import ConfigError
from perception.affinity import Affinity
from perception.calibration import Calibration
from perception.checkpoint import CheckpointError, checkpoint_hash, save_network
from perception.decode import DecodeConfig
from perception.map_polylines import map_window
from perception.network import PerceptionNetwork
from perception.oracle import OracleConfig, agents_of
from perception.perceive import Perception
from perception.recording import ObjectStates, Recording
from perception.sensor_frame import LidarSweep
from perception.track import TrackConfig
from planner.scene import RawStatus, frames


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that has learnt nothing, and so tells of many agents."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("run") / "network.safetensors"
    save_network(path, PerceptionNetwork(SMALL), {})
    return path


@pytest.fixture(scope="module")
def recording() -> Recording:
    return generate("crossing_pedestrian", 1000)


Shown = tuple[Observer, VehicleSensors]


@pytest.fixture(scope="module")
def shown(recording: Recording, checkpoint: Path) -> Shown:
    """Made once: a route's surface takes a second."""
    observe, sensors = make_observer(recording, "network", settings(checkpoint), SimulationConfig(), True)
    assert sensors is not None
    return observe, sensors


def settings(checkpoint: Path) -> ObserverConfig:
    decode, tracking = DecodeConfig(existence=0.0, line=0.0), TrackConfig(birth=0.0)
    return ObserverConfig(network=NetworkObserverConfig(str(checkpoint), decode=decode, tracking=tracking))


def nobody(world: World) -> ObjectStates:
    return ObjectStates(*(value[:0] for value in vars(world.objects()).values()))


def test_what_comes_from_where(recording: Recording, shown: Shown) -> None:
    """Agents from the sensors, whatever objects are handed over; route and map as the oracle's, the map on request."""
    observe, sensors = shown
    assert isinstance(observe, NetworkObserver)
    world = World(recording, "log_replay")
    sensors.expose(world.ego_state(), world.objects())
    sensors.before(world.ego_state())
    observe.perception.reset()
    scene = observe(world.ego_state(), nobody(world), "x")
    assert scene.name == "x"
    assert int(scene.agents.valid.sum()) > 0
    lines = map_window(recording.road, OracleConfig().points).local(world.ego.pose, OracleConfig().map_radius)
    assert torch.equal(scene.map.xy, lines.xy)
    assert torch.equal(scene.route.xy, observe.surface.local(world.ego.pose).xy)
    ahead = frames.transform_points(scene.global_from_ego, torch.tensor([[10.0, 0.0]], dtype=torch.float64))[0].numpy()
    pose = world.ego.pose
    assert np.allclose(ahead, pose[:2] + 10.0 * np.array([np.cos(pose[2]), np.sin(pose[2])]))
    own = NetworkObserver(observe.surface, observe.perception, sensors, None, None)
    observe.perception.reset()
    told = own(world.ego_state(), nobody(world), "x")
    assert torch.equal(told.agents.box, scene.agents.box)
    assert float(told.map.xy[..., 0].abs().max()) <= 40.0 < float(scene.map.xy[..., 0].abs().max())


def test_what_is_configured_is_what_drives(recording: Recording, tmp_path: Path) -> None:
    """Calibration and affinity of the checkpoint; settings of decoding and tracking; whose map and forecasts."""
    torch.manual_seed(0)
    network = PerceptionNetwork(SMALL)
    calibration = Calibration(mode=1.7, found_on="somewhere")
    facts = {"calibration": calibration.facts(), "affinity": Affinity(5.0).to_facts()}
    save_network(tmp_path / "n.safetensors", network, facts)
    wanted = NetworkObserverConfig(
        str(tmp_path / "n.safetensors"), map="network", futures="network", decode=DecodeConfig(existence=0.21),
        tracking=TrackConfig(birth=0.33),
    )  # fmt: skip
    observe, _ = make_observer(recording, "network", ObserverConfig(network=wanted), SimulationConfig(), False)
    assert isinstance(observe, NetworkObserver)
    assert (observe._lines, observe._futures) == (None, None)
    perception = observe.perception
    assert (perception.calibration, perception.settings) == (calibration, wanted.decode)
    assert (perception.tracker.config, perception.tracker.association) == (wanted.tracking, "qp")
    assert perception.tracker.affinity is not None
    assert perception.tracker.affinity.gate == 5.0
    alone = Perception.from_checkpoint(tmp_path / "n.safetensors")
    assert (alone.calibration, alone.tracker.association) == (calibration, "qp")


def test_the_sensors_are_those_that_are_wanted() -> None:
    torch.manual_seed(0)
    network, simulation = PerceptionNetwork(SMALL), SimulationConfig(seed=5)
    for lidar, cameras in ((True, True), (True, False), (False, True)):
        wanted = NetworkObserverConfig(lidar=lidar, cameras=cameras, weather="rain")
        sensors = sensor_config(wanted, simulation, network)
        assert (sensors.with_lidar, sensors.with_cameras, sensors.seed) == (lidar, cameras, 5)
        assert sensors.cameras.weather == "rain"
        assert (sensors.cameras.height, sensors.cameras.width) == SMALL.preprocessing.image
    assert not sensor_config(None, simulation).with_cameras


def test_both_channels_share_one_lidar_and_its_faults(recording: Recording) -> None:
    """Rendered once a cycle, through the same fault; a turn that does not arrive is missing in both."""
    sensors, world = VehicleSensors(recording), World(recording, "log_replay")
    calls: list[int] = []

    def through(sweep: LidarSweep) -> LidarSweep | None:
        calls.append(sweep.time_us)
        return None

    sensors.expose(world.ego_state(), world.objects())
    assert sensors.frame(world.ego_state()).lidar is not None
    assert sensors.raw().status is RawStatus.OK
    sensors.expose(world.ego_state(), world.objects(), through)
    frame = sensors.frame(world.ego_state())
    assert len(calls) == 1
    assert frame.lidar is None
    assert "LIDAR_TOP: no turn" in frame.missing
    assert sensors.raw().status is not RawStatus.OK


def test_an_old_turn_under_a_new_stamp_gets_the_new_pose(recording: Recording) -> None:
    sensors, world = VehicleSensors(recording), World(recording, "log_replay")
    kept: list[LidarSweep] = []

    def frozen(sweep: LidarSweep) -> LidarSweep:
        kept.append(sweep)
        return replace(kept[0], time_us=sweep.time_us)

    for _ in range(2):
        sensors.expose(world.ego_state(), world.objects(), frozen)
        frame = sensors.frame(world.ego_state())
        assert np.allclose(frame.lidar.global_from_ego[:2, 3], world.ego.pose[:2], atol=1e-6)
        assert frame.lidar.points is kept[0].points
        world.replay_ego()


def test_a_wrong_localisation_moves_all_poses_together(recording: Recording, shown: Shown) -> None:
    """What is seen relative to the vehicle stays the same; only its place on the map is wrong."""
    world, sensors = World(recording, "log_replay"), shown[1]
    truth = world.ego_state()
    sensors.expose(truth, world.objects())
    false = truth.replace(x=truth.x + 3.0, yaw=truth.yaw + 0.2)
    right, wrong = sensors.frame(truth), sensors.frame(false)
    assert float(wrong.ego.x) == float(truth.x) + 3.0
    for a, b in ((right.lidar, wrong.lidar), (right.cameras, wrong.cameras)):
        assert np.allclose(
            np.linalg.inv(right.global_from_ego) @ a.global_from_ego,
            np.linalg.inv(wrong.global_from_ego) @ b.global_from_ego,
            atol=1e-6,
        )


def test_the_network_has_looked_before_the_drive_begins(recording: Recording) -> None:
    """Earlier measurements, oldest first, told once, along the way that ego came."""
    sensors, world = VehicleSensors(recording, lead_in=(1.0, 0.5)), World(recording, "log_replay")
    sensors.expose(world.ego_state(), world.objects())
    first, second = sensors.before(world.ego_state())
    assert sensors.before(world.ego_state()) == []
    now = sensors.frame(world.ego_state())
    assert (now.time_us - first.time_us, now.time_us - second.time_us) == (1_000_000, 500_000)
    away = np.linalg.norm(now.global_from_ego[:2, 3] - first.global_from_ego[:2, 3])
    assert away == pytest.approx(world.ego.v, rel=0.01)
    world.replay_ego()
    sensors.expose(world.ego_state(), world.objects())
    assert sensors.before(world.ego_state()) == []


def test_forecasts_for_what_was_told(recording: Recording) -> None:
    """The same rules as the oracle's, at the told places, as if these were certain."""
    world, config = World(recording, "log_replay"), OracleConfig()
    told, futures = agents_of(world.seen(), recording.road, world.ego.pose, config)
    again = rule_futures(told, world.ego.pose, recording.road, config)
    assert torch.allclose(again.mean, futures.mean, atol=1e-6)
    assert torch.equal(again.valid, futures.valid)
    assert torch.allclose(again.covariance, futures.covariance, atol=1e-9)


def test_what_the_tracker_does_not_know_widens_the_forecasts(recording: Recording, shown: Shown) -> None:
    """By what the place is uncertain today, and by much more where a newcomer's speed is hardly known."""
    observe, sensors = shown
    assert isinstance(observe, NetworkObserver)
    world = World(recording, "log_replay")
    sensors.expose(world.ego_state(), world.objects())
    observe.perception.reset()
    scene = observe(world.ego_state(), nobody(world), "x")
    rules = rule_futures(scene.agents, world.ego.pose, recording.road, OracleConfig())
    extra = scene.futures.covariance - rules.covariance
    unknown = observe.perception.tracker.uncertainty(rules.time, scene.global_from_ego)
    assert len(extra) == len(unknown) > 0
    assert torch.allclose(extra, unknown[:, None].expand_as(extra), atol=1e-9)
    sigma = TrackConfig().velocity_sigma  # of who has been seen once
    grown = extra[:, 0] - scene.agents.position_covariance[:, None]
    tracks = observe.perception.tracker._tracks
    assert tracks is not None
    new = (tracks.sightings == 1) & (tracks.missed == 0)
    assert new.any()
    expected = (sigma * rules.time).square()[:, None, None] * torch.eye(2)
    assert torch.allclose(grown[new], expected.expand_as(grown[new]), rtol=1e-6)


def test_sensors_say_what_is_asked_too_early_or_impossible(recording: Recording) -> None:
    with pytest.raises(RuntimeError, match="expose"):
        VehicleSensors(recording).raw()
    with pytest.raises(ValueError, match="second_channel"):
        VehicleSensors(recording, SensorConfig(with_lidar=False, with_cameras=False))
    assert VehicleSensors(recording, second_channel=False).raw() is None


def test_a_drive_says_who_perceived(checkpoint: Path, tmp_path: Path) -> None:
    """A short drive as the workers make it: marked in name and trace, with the boxes that were told, repeatable."""
    config = load_config(
        None, ["planners=constant_velocity@network", "simulation.duration=0.2", "simulation.render_lidar=true",
               f"perception.network.checkpoint={checkpoint}", "perception.network.decode.existence=0.0",
               "perception.network.tracking.birth=0.0"],
    )  # fmt: skip
    task = Task(Sample("crossing_pedestrian_1000", "crossing_pedestrian", 1000), config.drivers()[0], "log_replay")
    lines = [run_task(task, lambda _: None, config=config, run_dir=tmp_path / name) for name in ("a", "b")]
    assert lines[0]["planner"] == "constant_velocity@network"
    assert lines[0]["state_hash"] == lines[1]["state_hash"]
    stored = Trace.load(tmp_path / "a" / lines[0]["trace"])
    assert stored.planner == "constant_velocity@network"
    assert len(stored.steps) == 3
    for k, step in enumerate(stored.steps):
        assert step["perceived"]
        away = np.array([box["xy"] for box in step["perceived"]]) - stored.pose[k, :2]
        assert float(np.abs(away).max()) < 2 * SMALL.preprocessing.extent  # global frame, around ego


def test_the_noise_of_the_sensors_follows_the_seed(recording: Recording) -> None:
    world = World(recording, "log_replay")
    points = []
    for seed in (0, 0, 1):
        sensors = VehicleSensors(recording, sensor_config(None, SimulationConfig(seed=seed)))
        sensors.expose(world.ego_state(), world.objects())
        points.append(sensors.frame(world.ego_state()).lidar.points)
    assert np.array_equal(points[0], points[1])
    assert points[0].shape != points[2].shape or not np.array_equal(points[0], points[2])


def test_faults_of_the_first_channels_objects_do_not_reach_a_network(recording: Recording, shown: Shown) -> None:
    """Hiding everybody from the oracle's list hides nobody from the sensors."""

    class Hide(Injection):
        def objects(self, objects: ObjectStates, ego: object) -> ObjectStates:
            return ObjectStates(*(value[:0] for value in vars(objects).values()))

    observe, sensors = shown
    observe.perception.reset()
    drive = rollout(
        recording, ConstantVelocity(), "log_replay", SimulationConfig(duration=0.2), observe=observe, sensors=sensors,
        injection=Hide(),
    )  # fmt: skip
    assert all(step["perceived"] for step in drive.steps)


# -- names and descriptions -----------------------------------------------------------------------
def test_names_of_drivers() -> None:
    def drivers(*overrides: str) -> tuple[str, ...]:
        return load_config(None, overrides).drivers()

    assert drivers("planners=[dualdrive,expert]") == ("dualdrive", "expert")
    assert drivers("planners=[dualdrive,dualdrive@network]") == ("dualdrive", "dualdrive@network")
    learned = drivers("planners=[dualdrive,expert,idm@oracle]", "perception.source=network")
    assert learned == ("dualdrive@network", "expert", "idm")
    assert not load_config(None, ["planners=[expert]", "perception.source=network"]).learned


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("planners=[dualdrive,dualdrive@oracle]", "each value once"),
        ("planners=[dualdrive@radar]", "NAME@oracle or NAME@network"),
        ("planners=['dualdrive@']", "NAME@oracle or NAME@network"),
        ("planners=[someone@network]", "expected values from"),
        ("perception.source=radar", "expected one of oracle, network"),
        ("perception.network.map=memory", "expected one of hd_map, network"),
        ("perception.network.weather=snow", "weather: expected any or one of clear"),
        ("perception.network.tracking.association=auction", "auction"),
    ],
)
def test_wrong_names_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_a_description_names_network_sensors_and_map(checkpoint: Path) -> None:
    config = NetworkObserverConfig(str(checkpoint), cameras=False)
    assert describe(config) == (
        f"{checkpoint.parent.name} {checkpoint_hash(config.path())[:8]} on rendered LiDAR, forecasts by rules, HD map"
    )
    told = replace(RunConfig(planners=("dualdrive", "idm@network")), perception=ObserverConfig(network=config))
    assert told.perceptions()["dualdrive"].startswith("oracle")
    assert told.perceptions()["idm@network"] == f"network: {describe(config)}"
    with pytest.raises(ConfigError, match="expected tiny or a file, got '/nowhere'"):
        describe(NetworkObserverConfig("/nowhere"))


def test_without_the_shipped_network_the_demo_says_so_and_drives_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = load_config("demo")
    assert "dualdrive@network" in demo.drivers()
    monkeypatch.setattr("eval.simulation.observer_config.shipped", _absent)
    left = with_network_at_hand(demo).drivers()
    assert left == tuple(name for name in demo.drivers() if name != "dualdrive@network")
    assert "Without learned perception" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="nothing here"):
        with_network_at_hand(replace(demo, planners=("dualdrive@network",)))


def test_a_checkpoint_that_cannot_be_used_is_refused_before_the_first_drive(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(checkpoint.read_bytes()[:-1000])
    settings = ["planners=[idm@network]", f"perception.network.checkpoint={tmp_path / 'half.safetensors'}"]
    config = load_config(None, [*settings, "data.families=[cut_in]", "data.seeds=[0]"])
    with pytest.raises(CheckpointError, match="half"):
        drive(config, tmp_path / "out", work=lambda *_, **__: pytest.fail("drives"))
    with pytest.raises(CheckpointError, match="half"):
        perception_loop(config, tmp_path / "out", [], seconds=1.0, fresh=False)
    assert not (tmp_path / "out").exists()


def _absent(name: str) -> Path:
    raise CheckpointError(f"nothing here: {name}")


# -- garbage --------------------------------------------------------------------------------------
def test_what_was_there_before_is_not_collected_meanwhile() -> None:
    before = gc.get_freeze_count()
    with frozen_heap():
        assert gc.get_freeze_count() > before + 10_000
        assert len(gc.get_objects()) < 10_000
    assert gc.get_freeze_count() == 0
