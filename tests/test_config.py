"""Settings: options before environment before defaults, and a wrong value costs only itself."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from warpspan import environment_variables
from warpspan.config import OPTIONS, Configuration, Settings, load

ROOT = Path(__file__).resolve().parent.parent
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


def test_what_is_made_from_the_table_is_not_stale():
    """Variables and docs/configuration.md can't drift from it."""
    check = subprocess.run(
        [sys.executable, ROOT / "scripts/options.py", "--check"], capture_output=True, text=True
    )
    assert ("", 0) == (check.stderr, check.returncode)


def test_every_setting_has_a_variable_and_an_entry_in_the_configuration_file():
    """The three name the same things; a configuration file that is silent is the default."""
    names = [field.name for field in fields(Settings)]
    assert names == [field.name for field in fields(Configuration)]
    assert names == [option.argument for option in OPTIONS if option.argument is not None]
    assert known() == [option.variable for option in OPTIONS]
    assert DEFAULTS == load(vars(Configuration()), {})


def test_the_types_of_a_configuration_file():
    """A file's lists and numbers, each of which may be left out."""
    types = {field.name: field.type for field in fields(Configuration)}
    assert (bool | None, list[str] | None, int | None, float | None, str | None) == tuple(
        types[name]
        for name in ("training", "excluded_models", "queue_size", "flush_timeout_s", "steps")
    )


def test_a_new_option_is_one_entry(tmp_path):
    """One more field of `Settings` is an argument, a variable and a row of the page."""
    for folder in ("src/warpspan", "scripts", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    config = tmp_path / "src/warpspan/config.py"
    field = '    speed_s: float = _option(2.0, SECONDS, "How fast.", "export.md")\n'
    text = config.read_text()
    config.write_text(text.replace("    training: bool", f"{field}    training: bool"))
    program = (
        "from warpspan import config, environment_variables as variables\n"
        "print(config.load({}, {variables.OTEL_PYTHON_WARPSPAN_SPEED: '3'}).speed_s)\n"
        "print(config.load({'speed_s': 4}, {}).speed_s, config.Configuration(speed_s=5).speed_s)\n"
    )
    output = ""
    for command in ([tmp_path / "scripts/options.py"], ["-c", program]):
        output += subprocess.run(
            [sys.executable, *command],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "src")},
        ).stdout
    assert "3.0\n4.0 5\n" == output
    assert (
        f"| `{PREFIX}SPEED` | `speed_s` | seconds from 0 to 3600 | `2` "
        "| How fast. See [export](export.md). |\n"
    ) in (tmp_path / "docs/configuration.md").read_text()
