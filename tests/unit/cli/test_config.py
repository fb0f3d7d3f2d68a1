"""Settings: one schema for file, environment and flags; who goes first; and errors that say where."""

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import onnx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from setpoint.cli.config_file import Given, lines_of, read_config
from setpoint.cli.config_keys import all_keys, key_named
from setpoint.cli.config_options import flags_given
from setpoint.cli.config_schema import descriptions, schema
from setpoint.cli.config_settings import Settings, resolve
from setpoint.cli.serve import command as serve
from setpoint.core import InvalidConfiguration, Limits, Objective
from setpoint.node import ModelConfig, NodeConfig

Run = Callable[..., tuple[int, str, str]]
WHOLE = """
[node]
port = 9000

[limits]
body_limit_bytes = "64KiB"
request_timeout_s = "500ms"
run_timeout_s = 2

[[models]]
source = "iris"
workers = 2
threads = 3
objective = "p99<=20ms, drop<=1%"

[[models]]
source = "ranker:champion"
trust = true
weights = { gold = 2 }

[models.batching]
max_batch_size = 8
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(here: Path, text: str = WHOLE) -> Path:
    path = here / "setpoint.toml"
    path.write_text(text)
    return path


def settled(
    *sources: str, config: Path | None = None, environment: Mapping[str, str] = {}, flags: Mapping[str, Any] = {}
) -> Settings:
    said = {path: Given(value, f"--{path}") for path, value in flags.items()}
    return resolve(said, sources, environment, config)


def all_of(*sources: str, config: Path) -> None:
    settings = settled(*sources, config=config)
    settings.node_fields()
    settings.model_fields(0)


def test_every_field_of_the_records_is_a_setting() -> None:
    for section, record, hidden in (
        ("limits", Limits, set()),
        ("node", NodeConfig, {"models", "limits", "lifeline", "registry", "admin_token"}),
        ("models", ModelConfig, {"bundle", "folder", "room_bytes", "follows"}),
    ):
        for field in msgspec.structs.fields(record):
            inner = {path for path in all_keys() if path.startswith(f"{section}.{field.name}.")}
            assert field.name in hidden or f"{section}.{field.name}" in all_keys() or inner, field.name


def test_every_setting_is_described_where_its_record_is() -> None:
    for key in all_keys().values():
        assert descriptions(key.section).get(key.name), f"{key.record.__name__} says nothing of {key.name}"


def test_every_option_of_serve_but_its_own_is_a_setting() -> None:
    own = {"models", "config", "everything", "as_json", "until_stdin_closes"}
    for parameter in serve.params:
        name = str(parameter.name)
        assert name in own or key_named(name.replace("__", "."))


def test_no_setting_has_a_default_of_its_own_in_an_option() -> None:
    for parameter in serve.params:
        if "__" in str(parameter.name):
            assert parameter.default is None, parameter.name


def test_a_file_says_what_is_served(here: Path) -> None:
    settings = settled(config=written(here))
    assert settings.node_fields()["port"] == 9000
    limits = settings.node_fields()["limits"]
    assert (limits.body_limit_bytes, limits.request_timeout_s, limits.run_timeout_s) == (65536, 0.5, 2.0)
    assert limits.drain_timeout_s == Limits().drain_timeout_s
    first, second = settings.model_fields(0), settings.model_fields(1)
    assert (first["workers"], first["threads"], first.get("batching")) == (2, 3, None)
    assert first["objective"] == Objective.parse("p99<=20ms, drop<=1%")
    assert (second["workers"], second["weights"], second["batching"].max_batch_size) == (1, {"gold": 2.0}, 8)
    assert settings.models[1]["source"].value == "ranker:champion"
    assert (settings.pack_options(0).trust, settings.pack_options(1).trust) == (False, True)


def test_flags_go_before_the_environment_and_that_before_the_file(here: Path) -> None:
    file = written(here)
    variables = {"SETPOINT_NODE_PORT": "9001", "SETPOINT_MODEL_WORKERS": "5", "HOME": "/"}
    port = lambda **given: settled(config=file, **given).node["port"]  # noqa: E731
    assert port() == Given(9000, f"{file}:3")
    assert port(environment=variables) == Given(9001, "SETPOINT_NODE_PORT")
    assert port(environment=variables, flags={"node.port": 9002}) == Given(9002, "--node.port")
    assert settled("iris").node["port"] == Given(8000, "default")
    workers = [model["workers"].value for model in settled(config=file, environment=variables).models]
    assert workers == [5, 5]


def test_without_models_the_file_of_this_folder_counts_and_only_then(here: Path) -> None:
    written(here)
    assert [model["source"].value for model in settled().models] == ["iris", "ranker:champion"]
    assert settled("other").node["port"].value == 8000
    models = settled("other", config=here / "setpoint.toml").models
    assert [model["source"].value for model in models] == ["other"]


def test_nothing_to_serve_is_said(here: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"name a model, or write a setpoint\.toml"):
        settled()
    written(here, "[node]\nport = 1\n")
    with pytest.raises(InvalidConfiguration, match=r"no model; write \[\[models\]\]"):
        settled()


def test_paths_start_from_the_file(here: Path) -> None:
    folder = here / "etc"
    folder.mkdir()
    (folder / "beside.pkl").touch()
    path = written(
        folder,
        '[[models]]\nsource = "a.onnx"\nsample = "s.npz"\n[[models]]\nsource = "beside.pkl"\n[[models]]\nsource="x:2"',
    )
    found = settled(config=path).models
    sources = [model["source"].value for model in found]
    assert sources == [str(folder / "a.onnx"), str(folder / "beside.pkl"), "x:2"]
    assert found[0]["sample"].value == folder / "s.npz"


def test_threads_share_the_cores_among_all_workers(here: Path) -> None:
    written(here, "".join(f'[[models]]\nsource = "m{number}"\nworkers = 1000\n' for number in range(2)))
    given = settled().models[0]["threads"]
    assert given == Given(1, "the cores, shared evenly")


def test_workers_and_threads_that_nobody_stated_are_the_measurements_to_choose(here: Path) -> None:
    assert settled("m").layout_is_free(0)
    assert not settled("m", flags={"models.workers": 1}).layout_is_free(0)
    assert not settled("m", environment={"SETPOINT_MODEL_THREADS": "2"}).layout_is_free(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[models]]\nsource = "a"\nworkrs = 2',
            r":3: unknown key of models 'workrs'; did you mean 'workers'\?",
        ),
        ("\n[nod]\nport = 1", r":2: unknown table or key 'nod'; did you mean 'node'\?"),
        ("workers = 2", r":1: 'workers' stands below \[\[models\]\]"),
        ("queue_limit_rows = 2", r":1: 'queue_limit_rows' stands below \[limits\]"),
        ("[limits]\nzzzz = 2", r":2: unknown key of limits 'zzzz'; there is .*body_limit_bytes"),
        ('[node]\n# one\nport = "x"', r":3: node\.port expects a whole number, got 'x'"),
        ("[node]\nport = true", r":2: node\.port expects a whole number, got True"),
        ('[limits]\nbody_limit_bytes = "8 elephants"', r":2: .* expects a size such as 65536 or '64MiB'"),
        ('[limits]\nrun_timeout_s = "8 years"', r":2: .* expects a time such as 30, '30s' or '500ms'"),
        ("[limits]\nrun_timeout_s = 0", r":2: limit run_timeout_s must be above 0"),
        (
            '[[models]]\nsource = "a"\nobjective = "fast"',
            r":3: models\.objective: objective clause 'fast'",
        ),
        ('[[models]]\nsource = "a"\n[[models]]\nworkers = 1', r":3: this model has no source"),
        ('[models]\nsource = "a"', r":1: models are tables of a list: \[\[models\]\]"),
        ('[[models]]\nsource = "a"\nbatching = 3', r":3: batching is a table, got 3"),
        (
            '[[models]]\nsource = "a"\n[models.batching]\nmax_batch = 3',
            r":4: unknown key of batching 'max_batch'",
        ),
        (
            '[[models]]\nsource = "a"\nbatching.max_queue_size = 3',
            r":3: models\.batching also needs max_batch_size",
        ),
        ('[[models]]\nsource = "a"\nweights = {a = "b"}', r":3: .* expects a table of numbers by name"),
        ("[node\nport = 1", r":1: not TOML"),
        ("node = 3", r":1: node is a table"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(here: Path, text: str, message: str) -> None:
    path = written(here, text)
    sources = () if "[[models" in text else ("a",)
    with pytest.raises(InvalidConfiguration, match=message):
        all_of(*sources, config=path)


def test_files_that_cannot_be_read_are_said(here: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"none\.toml: No such file"):
        read_config(here / "none.toml")
    (here / "latin.toml").write_bytes(b"# \xe9")
    with pytest.raises(InvalidConfiguration, match="not UTF-8"):
        read_config(here / "latin.toml")


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("SETPOINT_LIMITS_BODY_LIMIT_BYTES", "1MiB", "limits.body_limit_bytes", 1 << 20),
        ("SETPOINT_LIMITS_BODY_LIMIT_BYTES", "100", "limits.body_limit_bytes", 100),
        ("SETPOINT_LIMITS_RUN_TIMEOUT_S", "2m", "limits.run_timeout_s", 120.0),
        ("SETPOINT_MODEL_TRUST", "true", "models.trust", True),
        ("SETPOINT_MODEL_OBJECTIVE", "p99<=5ms", "models.objective", Objective.parse("p99<=5ms")),
        ("SETPOINT_MODEL_WEIGHTS", "a=2, b=0.5", "models.weights", {"a": 2.0, "b": 0.5}),
        ("SETPOINT_MODEL_BATCHING_MAX_BATCH_SIZE", "4", "models.batching.max_batch_size", 4),
    ],
)
def test_the_environment_is_text(here: Path, variable: str, text: str, path: str, value: Any) -> None:
    settings = settled("a", environment={variable: text})
    section, _, name = path.partition(".")
    values = settings.models[0] if section == "models" else getattr(settings, section)
    assert values[name] == Given(value, variable)


def test_a_variable_that_nobody_knows_is_refused_but_for_those_that_kubernetes_sets(here: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="did you mean 'SETPOINT_NODE_PORT'"):
        settled("a", environment={"SETPOINT_NODE_PROT": "1"})
    with pytest.raises(InvalidConfiguration, match=r"SETPOINT_NODE_PORT: node\.port expects a whole number"):
        settled("a", environment={"SETPOINT_NODE_PORT": "eighty"})
    settings = settled(
        "a",
        environment={
            "SETPOINT_NODE_PORT": "tcp://10.0.0.1:8000",
            "SETPOINT_MODEL_PORT": "tcp://10.0.0.1:8000",
            "SETPOINT_NODE_SERVICE_HOST": "10.0.0.1",
            "SETPOINT_NODE_SERVICE_PORT_HTTP": "80",
            "SETPOINT_NODE_PORT_8000_TCP_ADDR": "10.0.0.1",
            "SETPOINT_HOME": "/x",
        },
    )
    assert settings.node["port"] == Given(8000, "default")


def test_a_name_goes_with_one_model(here: Path) -> None:
    assert settled("a", flags={"models.name": "b"}).models[0]["name"].value == "b"
    with pytest.raises(InvalidConfiguration, match=r"--models\.name goes with one model, and 2 are served"):
        settled("a", "c", flags={"models.name": "b"})


def test_flags_are_found_by_the_settings_they_set() -> None:
    context = serve.make_context("serve", ["a", "--port", "1", "--max-body", "2KiB", "--trust", "--run-timeout", "1m"])
    found = flags_given(context)
    assert found == {
        "node.port": Given(1, "--port"),
        "limits.body_limit_bytes": Given(2048, "--max-body"),
        "models.trust": Given(True, "--trust"),
        "limits.run_timeout_s": Given(60.0, "--run-timeout"),
    }


def test_help_tells_the_records_defaults() -> None:
    text = " ".join(CliRunner().invoke(serve, ["--help"]).output.split())
    for said in ("[default: 8000]", "[default: 64MiB]", f"[default: {Limits().queue_limit_rows}]"):
        assert said in text


def test_the_schema_takes_what_is_read_and_refuses_what_is_not(here: Path) -> None:
    document = schema()
    jsonschema.Draft202012Validator.check_schema(document)
    judge = jsonschema.Draft202012Validator(document)
    judge.validate(tomllib.loads(WHOLE))
    for wrong in ("[[models]]\nworkers = 1", "[node]\nprot = 1", '[limits]\nrun_timeout_s = "x"', "[models]\n"):
        assert not judge.is_valid(tomllib.loads(wrong)), wrong


def test_show_prints_every_value_with_its_origin(here: Path, run: Run) -> None:
    written(here)
    code, out, _ = run("config", "show", "--workers", "4", "--json")
    rows = {row["key"]: (row["value"], row["origin"]) for row in json.loads(out)}
    assert code == 0
    assert rows["node.port"] == ("9000", "setpoint.toml:3")
    assert rows["limits.body_limit_bytes"] == ("64KiB", "setpoint.toml:6")
    assert rows["models[0].workers"] == ("4", "--workers")
    assert rows["models[1].weights"] == ("gold=2", "setpoint.toml:19")
    assert rows["limits.run_timeout_s"] == ("2s", "setpoint.toml:8")
    assert rows["models[0].batching"] == ("", "default")  # there is none, so its own defaults mean nothing
    assert rows["models[1].batching.max_queue_size"] == ("0", "default")
    code, out, _ = run("config", "show", "--set")
    assert [line.split()[0] for line in out.splitlines()][:2] == ["key", "node.port"]
    assert "default" not in out


def test_show_means_the_models_in_a_folder_as_serve_does(here: Path, run: Run) -> None:
    (here / "zoo" / "notes").mkdir(parents=True)
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    row = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 1]) for name in ("x", "y")]
    for name in ("a.onnx", "b.onnx"):
        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", row[:1], row[1:])), here / "zoo" / name)
    code, out, _ = run("config", "show", "zoo", "--json")
    assert code == 0
    values = {row["key"]: row["value"] for row in json.loads(out)}
    assert [values[f"models[{index}].source"] for index in (0, 1)] == ["zoo/a.onnx", "zoo/b.onnx"]
    assert run("config", "show", "zoo/notes")[0] == 2


def test_show_refuses_what_serve_would(here: Path, run: Run) -> None:
    written(here, "[node]\nprt = 1\n")
    assert run("config", "show")[0] == run("serve")[0] == 2
    code, _, err = run("config", "show", "a", "--workers", "x")
    assert code == 2
    assert "--workers" in err


def test_schema_is_printed(run: Run) -> None:
    code, out, _ = run("config", "schema")
    assert (code, json.loads(out)) == (0, json.loads(json.dumps(schema())))


def test_secrets_are_not_shown() -> None:
    from setpoint.cli.config_keys import Key
    from setpoint.cli.config_values import shown_value

    key = Key("node", "admin_token", str | None, None, NodeConfig)
    assert shown_value(key, "s3cret") == "(set, not shown)"
    assert shown_value(key, None) == ""


@given(st.text(alphabet="ab=.[]\"'# \n", max_size=60))
def test_finding_lines_never_fails(text: str) -> None:
    lines_of(text)


def test_lines_within_texts_are_no_keys() -> None:
    assert lines_of('[a]\nb = """\nc = 1\n"""\nd = 2\n["e"]\nf.g = 1') == {
        ("a",): 1,
        ("a", "b"): 2,
        ("a", "d"): 5,
        ("e",): 6,
        ("e", "f"): 7,
        ("e", "f", "g"): 7,
    }
