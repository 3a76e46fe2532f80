"""Settings: options before environment before defaults, and a wrong value costs only itself."""

from __future__ import annotations

import logging
from dataclasses import fields

import pytest

from warpspan import environment_variables
from warpspan.config import Configuration, Settings, load

PREFIX = "OTEL_PYTHON_WARPSPAN_"
DEFAULTS = Settings(
    training=False,
    parameterless=False,
    excluded_models=(),
    memory=True,
    queue_size=4096,
    flush_timeout_s=5.0,
)


def test_defaults(caplog):
    """Nothing set, nothing said."""
    assert DEFAULTS == Settings() == load({}, {})
    assert [] == caplog.records


def test_the_environment_is_read_by_default(monkeypatch):
    """Without an argument it is the process's."""
    monkeypatch.setenv(f"{PREFIX}TRAINING", "true")
    assert Settings(training=True) == load()


@pytest.mark.parametrize(
    ("variable", "value", "setting", "parsed"),
    [
        ("TRAINING", "true", "training", True),
        ("TRAINING", "TRUE", "training", True),
        ("TRAINING", " 1 ", "training", True),
        ("TRAINING", "0", "training", False),
        ("PARAMETERLESS", "True", "parameterless", True),
        ("MEMORY", "false", "memory", False),
        ("MEMORY", "", "memory", True),
        ("EXCLUDED_MODELS", "Linear", "excluded_models", ("Linear",)),
        ("EXCLUDED_MODELS", " Bert*, ,VAE ", "excluded_models", ("Bert*", "VAE")),
        ("QUEUE_SIZE", "16", "queue_size", 16),
        ("QUEUE_SIZE", "1000000", "queue_size", 1_000_000),
        ("FLUSH_TIMEOUT", "0", "flush_timeout_s", 0.0),
        ("FLUSH_TIMEOUT", "2.5", "flush_timeout_s", 2.5),
    ],
)
def test_variables(caplog, variable, value, setting, parsed):
    """Each as OpenTelemetry writes such values; an empty one is an unset one."""
    assert Settings(**{setting: parsed}) == load({}, {PREFIX + variable: value})
    assert [] == caplog.records


@pytest.mark.parametrize(
    ("setting", "value", "parsed"),
    [
        ("training", True, True),
        ("parameterless", "true", True),
        ("memory", False, False),
        ("excluded_models", ["Bert*", "VAE"], ("Bert*", "VAE")),
        ("excluded_models", "Bert*,VAE", ("Bert*", "VAE")),
        ("queue_size", 64, 64),
        ("flush_timeout_s", 1, 1.0),
        ("queue_size", None, 4096),
    ],
)
def test_options(caplog, setting, value, parsed):
    """Python's own types, as `instrument()` and a configuration file give them."""
    assert Settings(**{setting: parsed}) == load({setting: value}, {})
    assert [] == caplog.records


def test_precedence():
    """An option wins over the variable, the variable over the default; each by itself."""
    environ = {f"{PREFIX}QUEUE_SIZE": "32", f"{PREFIX}MEMORY": "false"}
    assert Settings(queue_size=64, memory=False) == load({"queue_size": 64}, environ)


@pytest.mark.parametrize(
    ("variable", "value", "allowed", "default"),
    [
        ("TRAINING", "maybe", "true or false", "False"),
        ("PARAMETERLESS", "2", "true or false", "False"),
        ("MEMORY", "yes", "true or false", "True"),
        ("QUEUE_SIZE", "15", "a whole number from 16 to 1000000", "4096"),
        ("QUEUE_SIZE", "1000001", "a whole number from 16 to 1000000", "4096"),
        ("QUEUE_SIZE", "1e3", "a whole number from 16 to 1000000", "4096"),
        ("FLUSH_TIMEOUT", "-1", "seconds from 0 to 3600", "5.0"),
        ("FLUSH_TIMEOUT", "3601", "seconds from 0 to 3600", "5.0"),
        ("FLUSH_TIMEOUT", "nan", "seconds from 0 to 3600", "5.0"),
        ("FLUSH_TIMEOUT", "inf", "seconds from 0 to 3600", "5.0"),
        ("FLUSH_TIMEOUT", "5s", "seconds from 0 to 3600", "5.0"),
    ],
)
def test_wrong_variables(caplog, variable, value, allowed, default):
    """One warning names the variable, the value and what is allowed; the default is used."""
    assert DEFAULTS == load({}, {PREFIX + variable: value})
    assert [
        (
            "warpspan",
            logging.WARNING,
            f"{PREFIX}{variable}={value!r} is not valid: give {allowed}. "
            f"Using the default, {default}.",
        )
    ] == caplog.record_tuples


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("training", "maybe"),
        ("memory", 3),
        ("excluded_models", 5),
        ("excluded_models", ["Bert", 5]),
        ("queue_size", "many"),
        ("queue_size", True),
        ("queue_size", [64]),
        ("queue_size", 64.5),
        ("flush_timeout_s", {}),
    ],
)
def test_wrong_options(caplog, setting, value):
    """The same for arguments, whatever their type, under the name of the option."""
    assert DEFAULTS == load({setting: value}, {})
    (message,) = caplog.messages
    assert message.startswith(f"{setting}={value!r} is not valid: give ")


def test_a_wrong_value_costs_only_itself(caplog):
    """The others are used."""
    environ = {f"{PREFIX}QUEUE_SIZE": "3", f"{PREFIX}MEMORY": "false"}
    assert Settings(memory=False) == load({"training": "perhaps"}, environ)
    assert 2 == len(caplog.records)


def test_unknown_names(caplog):
    """A misspelt name is ignored with the nearest one, or with all where none is near."""
    names = {f"{PREFIX}QUEUESIZE": "16", f"{PREFIX}SPEED": "1", "OTEL_OTHER": "x"}
    assert DEFAULTS == load({"speed": 1, "step": "spans"}, names)
    settings = ", ".join(sorted(field.name for field in fields(Settings)))
    variables = ", ".join(sorted(set(vars(environment_variables)) & set(known())))
    assert [
        f"Unknown option speed is ignored. Known: {settings}.",
        "Unknown option step is ignored. Did you mean steps?",
        f"Unknown variable {PREFIX}QUEUESIZE is ignored. Did you mean {PREFIX}QUEUE_SIZE?",
        f"Unknown variable {PREFIX}SPEED is ignored. Known: {variables}.",
    ] == caplog.messages


def known():
    return [name for name in vars(environment_variables) if name.startswith(PREFIX)]


def test_every_setting_has_a_variable_and_an_entry_in_the_configuration_file():
    """The three name the same things; a configuration file that is silent is the default."""
    names = [field.name for field in fields(Settings)]
    assert names == [field.name for field in fields(Configuration)]
    assert len(names) + 2 == len(known())  # and the file and the helper of the exporters
    assert DEFAULTS == load(vars(Configuration()), {})
