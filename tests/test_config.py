"""Configuration: lossless YAML, overrides with types, refusals that name the key and the nearest valid one."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import config_docs
from eval.config import RunConfig, load_config, parse_seeds, shipped_configs
from eval.typed_config import ConfigError, from_mapping, replaced, to_mapping, with_override


@dataclass(frozen=True)
class Inner:
    gap: float = 1.0
    steps: int = 3
    on: bool = False


@dataclass(frozen=True)
class Outer:
    name: str = "a"
    pairs: tuple[tuple[float, int], ...] = ((0.5, 2),)
    limit: float | None = None
    inner: Inner = field(default_factory=Inner)
    per_class: dict[str, Inner] = field(default_factory=lambda: {"car": Inner(gap=2.0)})

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("name: this one is not allowed")


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.text(max_size=8).filter(lambda s: s != "forbidden"),
    st.lists(st.tuples(finite, st.integers(-9, 9)), max_size=3),
    st.none() | finite,
    st.booleans(),
)
def test_any_configuration_survives_yaml_unchanged(
    name: str, pairs: list[tuple[float, int]], limit: float | None, on: bool
) -> None:
    import yaml

    config = Outer(name, tuple(pairs), limit, Inner(on=on))
    assert from_mapping(Outer, yaml.safe_load(yaml.safe_dump(to_mapping(config)))) == config


def test_the_whole_run_configuration_survives_its_own_yaml(tmp_path) -> None:
    config = load_config(None, ["execution.workers=3", "planner.comfort.gap=2.5", "data.seeds=[4, 5]"])
    (tmp_path / "run.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "run.yaml") == config
    assert config.planner.comfort.gap == 2.5


@pytest.mark.parametrize("name", shipped_configs())
def test_shipped_configurations_load(name: str) -> None:
    assert load_config(name).planners


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("inner.gap=3", lambda c: c.inner.gap == 3.0 and isinstance(c.inner.gap, float)),
        ("inner.gap=1e-3", lambda c: c.inner.gap == 0.001),
        ("inner.on=true", lambda c: c.inner.on is True),
        ("limit=2.5", lambda c: c.limit == 2.5),
        ("limit=null", lambda c: c.limit is None),
        ("pairs=[[0.1, 4], [1, 2]]", lambda c: c.pairs == ((0.1, 4), (1.0, 2))),
        ("per_class.car.steps=7", lambda c: c.per_class["car"] == Inner(gap=2.0, steps=7)),
        ("name=", lambda c: c.name == ""),
    ],
)
def test_an_override_takes_the_type_of_its_setting(assignment: str, read) -> None:
    assert read(with_override(Outer(limit=1.0), assignment))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"gapp": 1}}, r"unknown setting 'inner.gapp'; did you mean 'inner.gap'\?"),
        ({"zzzzzz": 1}, r"unknown setting 'zzzzzz'; the top level has: name, pairs"),
        ({"inner": {"gap": "wide"}}, r"inner.gap: expected a number, got 'wide' \(str\)"),
        ({"inner": {"gap": float("nan")}}, r"inner.gap: expected a number, got NaN"),
        ({"inner": {"steps": 2.5}}, r"inner.steps: expected a whole number, got 2.5 \(float\)"),
        ({"inner": {"steps": True}}, r"inner.steps: expected a whole number, got True \(bool\)"),
        ({"inner": {"on": 1}}, r"inner.on: expected true or false, got 1 \(int\)"),
        ({"inner": 3}, r"inner: expected a mapping of settings, got 3 \(int\)"),
        ({"inner": {"gap": None}}, r"inner.gap: expected a number, got nothing"),
        ({"pairs": [[1.0]]}, r"pairs\[0\]: expected 2 values, got 1"),
        ({"per_class": {"bus": 1}}, r"per_class.bus: expected a mapping"),
        ({"name": "forbidden"}, r"this one is not allowed"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replaced(Outer(), values)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["planer.comfort.gap=1"], "did you mean 'planner'"),
        (["planners=[dualdrve]"], "planners: expected values from dualdrive, expert"),
        (["planners=[]"], "planners: expected at least one"),
        (["traffic=[idm, idm]"], "traffic: expected each value once"),
        (["data.dataset=waymo"], "data.dataset: expected generated or nuscenes"),
        (["data.seeds=[-1]"], "data.seeds: expected seeds of at least 0"),
        (["execution.workers=-1"], "execution.workers: expected 0 or more"),
        (["planner.horizon.nominal=[[0.2, 3]]"], "planner.horizon"),
        (["execution.workers"], "expected key=value"),
        (["execution.workers=[1"], "the value is not readable"),
    ],
)
def test_wrong_overrides_of_a_run_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, overrides)


def test_unreadable_files_are_refused_with_their_name(tmp_path) -> None:
    double = tmp_path / "double.yaml"
    double.write_text("planners: [idm]\nplanners: [expert]\n")
    with pytest.raises(ConfigError, match=r"double.yaml: the setting 'planners' stands twice \(line 2\)"):
        load_config(double)
    (tmp_path / "broken.yaml").write_text("data: [")
    with pytest.raises(ConfigError, match=r"broken.yaml: not readable as YAML"):
        load_config(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match=r"list.yaml: expected a mapping"):
        load_config(tmp_path / "list.yaml")
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*absent.yaml"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"no configuration 'dema': give a YAML file or one of demo"):
        load_config("dema")


def test_identity_ignores_how_a_run_is_executed_and_nothing_else() -> None:
    base = RunConfig().identity()
    assert load_config(None, ["execution.workers=7", "execution.report=false"]).identity() == base
    for change in ("data.seeds=[1]", "simulation.seed=1", "planner.comfort.gap=2.1", "driver.picture=false"):
        assert load_config(None, [change]).identity() != base, change


@pytest.mark.parametrize(
    ("text", "seeds"), [("3", (0, 1, 2)), ("10-12", (10, 11, 12)), ("3,7", (3, 7)), ("7-7", (7,)), ("5,", (5,))]
)
def test_seeds_from_text(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["x", "0", "5-3", "-1", ""])
def test_text_that_names_no_seeds_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="seeds"):
        parse_seeds(text)


def test_the_documentation_of_the_settings_is_in_step() -> None:
    assert config_docs.DOCUMENT.read_text() == config_docs.document(), "run: python -m eval.config_docs"


def test_every_setting_is_explained_where_it_is_declared() -> None:
    missing = {cls.__name__: names for cls in config_docs.config_classes() if (names := config_docs.undocumented(cls))}
    assert not missing


def test_all_configuration_classes_are_frozen() -> None:
    for cls in config_docs.config_classes():
        assert dataclasses.fields(cls) is not None
        assert cls.__dataclass_params__.frozen, cls
