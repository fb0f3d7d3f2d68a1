"""All settings of a node put together: flags over environment over file over defaults, each with where it came from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from setpoint.cli.config_file import FILE_NAME, ConfigFile, Given, read_config
from setpoint.cli.config_keys import (
    ENVIRONMENT_PREFIX,
    LIMITS,
    MODELS,
    NODE,
    REQUIRED,
    FirstUse,
    all_keys,
    keys_of,
)
from setpoint.cli.config_values import read_value, unknown
from setpoint.core import InvalidConfiguration, Limits
from setpoint.formats import PackOptions
from setpoint.machine import read_machine

DEFAULT = "default"
SHARED_CORES = "the cores, shared evenly"
_ONE_MODEL = ("name", "sample", "data")
"""What cannot hold for several models."""
_SET_BY_KUBERNETES = r"(_SERVICE_(HOST|PORT)(_\w+)?=|_PORT_\d+_\w+=|_PORT=(tcp|udp|sctp)://).*"
"""Of variables that a service called ``setpoint-node`` or so brings into every container; they are not meant for us."""


class Settings(msgspec.Struct, frozen=True):
    """What holds, and why.

    Attributes:
        node, limits: values by setting, with their origins.
        models: the same of each model.
    """

    node: dict[str, Given]
    limits: dict[str, Given]
    models: tuple[dict[str, Given], ...]

    def model_fields(self, index: int) -> dict[str, Any]:
        """Arguments of ``ModelConfig`` beside the bundle and its folder."""
        hidden = {"source", *_ONE_MODEL, *PackOptions.__struct_fields__, *FirstUse.__struct_fields__}
        return {name: value for name, value in _assembled(MODELS, self.models[index]).items() if name not in hidden}

    def layout_is_free(self, index: int) -> bool:
        """Whether nobody said how many workers and threads: then a node with an objective takes what holds most."""
        origins = [self.models[index][name].origin for name in ("workers", "threads")]
        return all(origin in (DEFAULT, SHARED_CORES) for origin in origins)

    def node_fields(self) -> dict[str, Any]:
        """Arguments of ``NodeConfig`` beside the models."""
        try:
            limits = Limits(**_assembled(LIMITS, self.limits))
        except InvalidConfiguration as error:
            raise blamed(error, self.limits) from error
        return {**_assembled(NODE, self.node), "limits": limits}

    def pack_options(self, index: int) -> PackOptions:
        """How a model is packed where its source is a path."""
        values = self.models[index]
        return PackOptions(**{name: values[name].value for name in PackOptions.__struct_fields__ if name in values})

    def first_use(self, index: int) -> FirstUse:
        """What is done before a model is served by an objective."""
        values = self.models[index]
        try:
            return FirstUse(**{name: values[name].value for name in FirstUse.__struct_fields__})
        except InvalidConfiguration as error:
            raise blamed(error, values) from error


def resolve(
    flags: Mapping[str, Given], sources: Sequence[str], environment: Mapping[str, str], config: Path | None
) -> Settings:
    """Put all together.

    Args:
        flags: what was said on the command line, by the setting's path.
        sources: of models on the command line; the file's models count where there is none.
        environment: of the process.
        config: the file that was asked for; without one, and without sources, ``setpoint.toml`` of the current folder.

    Raises:
        InvalidConfiguration: a value is impossible, a name unknown, or there is no model.
    """
    file = _file(config, sources)
    over = {**_from_environment(environment), **flags}
    models: list[dict[str, Given]] = [{"source": Given(source, "argument")} for source in sources]
    if not models and file is not None:
        models = list(file.models)
    if not models:
        raise InvalidConfiguration(
            f'{file.path}: no model; write [[models]] and source = "PATH_OR_NAME" below it, or name one behind serve'
            if file is not None
            else f"nothing to serve: name a model, or write a {FILE_NAME} here (setpoint config schema says how)"
        )
    for name in _ONE_MODEL:
        given = over.get(f"{MODELS}.{name}")
        if given is not None and len(models) > 1:
            raise InvalidConfiguration(
                f"{given.origin} goes with one model, and {len(models)} are served; pack the others first: "
                "setpoint pack PATH --name …"
            )
    filled = [_section(MODELS, model, over) for model in models]
    processes = sum(model["workers"].value for model in filled)
    for model in filled:
        if model["threads"].value is None:
            # More threads than cores only take them from one another.
            model["threads"] = Given(max(1, read_machine().cores // max(1, processes)), SHARED_CORES)
    return Settings(
        _section(NODE, file.node if file else {}, over),
        _section(LIMITS, file.limits if file else {}, over),
        tuple(filled),
    )


def blamed(error: InvalidConfiguration, values: Mapping[str, Given]) -> InvalidConfiguration:
    """The same error with the place of the setting that it names, where it names one."""
    named = [given for name, given in values.items() if re.search(rf"\b{re.escape(name)}\b", error.message)]
    places = [given.origin for given in named if given.origin != DEFAULT]
    return InvalidConfiguration(f"{places[0]}: {error.message}") if places else error


def _file(config: Path | None, sources: Sequence[str]) -> ConfigFile | None:
    if config is not None:
        return read_config(config)
    here = Path(FILE_NAME)
    return read_config(here) if not sources and here.is_file() else None


def _section(section: str, file: Mapping[str, Given], over: Mapping[str, Given]) -> dict[str, Given]:
    return {
        name: over.get(key.path) or file.get(name) or Given(key.default, DEFAULT)
        for name, key in keys_of(section).items()
    }


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    known = {key.variable: key for key in all_keys().values() if key.path != f"{MODELS}.source"}
    prefixes = tuple(ENVIRONMENT_PREFIX.values())
    found: dict[str, Given] = {}
    for variable, text in environment.items():
        key = known.get(variable)
        if not variable.startswith(prefixes) or re.search(_SET_BY_KUBERNETES, f"{variable}={text}"):
            continue
        if key is not None:
            found[key.path] = Given(read_value(key, text, variable, text=True), variable)
        else:
            raise unknown(variable, known, "environment", "variable")
    return found


def _assembled(section: str, values: Mapping[str, Given]) -> dict[str, Any]:
    """Fields of records. An inner record is made of what belongs to it; where nothing of it was said it is left out."""
    fields: dict[str, Any] = {}
    inner: dict[str, dict[str, Given]] = {}
    for name, given in values.items():
        head, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = given
        else:
            fields[name] = given.value
    for head, parts in inner.items():
        said = [given.origin for given in parts.values() if given.origin != DEFAULT]
        if said:
            fields[head] = _inner(section, head, parts, said[0])
    return fields


def _inner(section: str, head: str, parts: dict[str, Given], where: str) -> Any:
    key = next(key for name, key in keys_of(section).items() if name.startswith(f"{head}."))
    for name, given in parts.items():
        if given.value is REQUIRED:
            raise InvalidConfiguration(f"{where}: {section}.{head} also needs {name}")
    try:
        return key.record(**{name: given.value for name, given in parts.items()})
    except InvalidConfiguration as error:
        raise blamed(error, parts) from error
