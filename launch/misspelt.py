"""One sentence for each way a setting can be misspelt, where Hydra prints a block of lines."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import OverrideParseException

from launch.optional import given_in_part, without_none

# Settings that are gone, and what to do instead.
FORMER = {
    "algorithm.normalise_by_std": "choose algorithm.normalise=group or none",
    "learner.old_logprobs": "the learner always computes them itself",
}


def explain(error: Exception, schema: type, conf: Path) -> str:
    """The sentence for an exception of Hydra or OmegaConf: their own first line where there is nothing to add."""
    text = str(error)
    cause = str(error.__cause__) if error.__cause__ is not None else text
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read as setting=value."
    if match := re.match(r"Could not override '([^']+)'", text):
        key = match[1].split("@")[0].replace("/", ".")
        if _can_be_added(key, schema):
            return f"{key} is not there yet; add it as +{key}=..."
        return not_a_setting(key, schema, [group for group in _groups(conf) if group not in get_type_hints(schema)])
    if match := re.search(r"Could not find '([^']+)'", text):
        return _no_such_option(match[1], conf)
    if match := re.search(r"Could not load '([^']+)'", text):
        return _no_such_option(match[1], conf)
    if match := re.match(r"In '([^']+)': ConfigKeyError", text):
        return f"conf/{match[1]}.yaml: {not_a_setting(_full_key(cause), schema)}"
    if match := re.match(r"In '([^']+)':", text):
        return f"conf/{match[1]}.yaml: {_about(cause)}."
    if match := re.match(r"Error merging override (.+)", text):
        return f"{match[1]} is refused: {_about(cause)}."
    if match := re.match(r"Ambiguous value for argument '([^']+)'", text):
        return f"{match[1]} is a list of values; add --multirun to run one after another."
    if match := re.match(r"(?:Multiple values for )?(\w+)/section/(\w+)@", text):
        options = " or ".join(_completing(match[1], match[2], conf))
        return f"{match[1]}.{match[2]} is chosen twice; of {options} take one."
    if match := re.match(r"(?:Multiple values for )?(\S+?)(?:\.| appears more than once)", text):
        return f"{match[1]} is chosen twice; write {match[1]}=... once and without a plus sign."
    return f"{_about(text)}."


def in_no_section(error: Exception, overrides: Sequence[str], schema: type, conf: Path) -> str | None:
    """The sentence for what OmegaConf says of a setting of a section that is null; None for any other exception."""
    if "NoneType" not in str(error):
        return None
    keys = [override.lstrip("+").split("=")[0] for override in overrides]
    return next((sentence for key in keys if (sentence := _off(key, schema, conf))), None)


def without_value(key: str, schema: type, conf: Path) -> str:
    """The sentence for a setting that has no value."""
    return _off(key, schema, conf) or f"{key} has no default; give {key}=..."


def _off(key: str, schema: type, conf: Path) -> str | None:
    """The sentence for a setting of a section that is null by default, and given in part."""
    group, section, *_ = [*key.split("."), "", ""]
    options = _completing(group, section, conf) if section in _sections_that_may_be_off(schema, group) else []
    if not options:
        return None
    return (
        f"{group}.{section} is incomplete; choose {group}={' or '.join(options)}, or leave it out with "
        f"{group}.{section}=null."
    )


def _sections_that_may_be_off(schema: type, group: str) -> list[str]:
    hints = get_type_hints(get_type_hints(schema).get(group, object))
    return [name for name, kind in hints.items() if is_dataclass(without_none(kind)) and without_none(kind) is not kind]


def _completing(group: str, section: str, conf: Path) -> list[str]:
    """Options of `group` that fill in `section`."""
    fills = re.compile(rf"^({section}:|  - section/{section}@)", re.MULTILINE)
    files = [file for file in sorted((conf / group).glob("*.yaml")) if file.stem != "base"]
    return [file.stem for file in files if fills.search(file.read_text())]


def not_a_setting(key: str, schema: type, groups: Sequence[str] = ()) -> str:
    """A sentence with the nearest existing setting: "clip.hihg is not a setting; did you mean clip.high?".

    groups  names that can be chosen from but are no section of the settings
    """
    if key in FORMER:
        return f"{key} is no longer a setting: {FORMER[key]}."
    nearest = next(iter(get_close_matches(key, groups)), None) or nearest_setting(key, schema)
    return f"{key} is not a setting" + (f"; did you mean {nearest}?" if nearest else ".")


def nearest_setting(key: str, schema: type) -> str | None:
    """The existing setting most like the dotted `key`: spelt alike in its section, or of its name in another one."""
    known = list(_settings(schema, ""))
    name = key.split(".")[-1]
    elsewhere = [setting for setting in known if setting.split(".")[-1] == name]
    respelt = _respelt(key, schema)
    within = respelt if "." in key else []
    guesses = [*within, *get_close_matches(key, elsewhere, cutoff=0), *respelt, *get_close_matches(key, known)]
    return guesses[0] if guesses else None


def _respelt(key: str, schema: Any) -> list[str]:
    """`key` with its first wrong component replaced by fields of that section that are like it, the likest first."""
    parts, kind = key.split("."), schema
    for index, part in enumerate(parts):
        kind = without_none(kind)
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            continue
        hints = get_type_hints(kind) if is_dataclass(kind) else {}
        if part not in hints:
            before, after = parts[:index], parts[index + 1 :]
            return [".".join([*before, close, *after]) for close in get_close_matches(part, hints)]
        kind = hints[part]
    return []


def _can_be_added(key: str, schema: Any) -> bool:
    """Whether `key` is a setting of a section that has one by name, such as of one evaluation set."""
    kind, by_name = schema, False
    for part in key.split("."):
        kind = without_none(kind)
        if get_origin(kind) is dict:
            kind, by_name = get_args(kind)[1], True
            if is_dataclass(kind) and not given_in_part(kind):
                return False
            continue
        hints = get_type_hints(kind) if is_dataclass(kind) else {}
        if part not in hints:
            return False
        kind = hints[part]
    return by_name or get_origin(kind) is dict


def _settings(kind: Any, prefix: str) -> Iterator[str]:
    kind = without_none(kind)
    if not is_dataclass(kind):
        return
    hints = get_type_hints(kind)
    for field in fields(kind):
        yield f"{prefix}{field.name}"
        yield from _settings(hints[field.name], f"{prefix}{field.name}.")


def _groups(conf: Path) -> list[str]:
    return sorted(folder.name for folder in conf.iterdir() if folder.is_dir())


def _no_such_option(path: str, conf: Path) -> str:
    group, _, option = path.rpartition("/")
    options = sorted(file.stem for file in (conf / group).glob("*.yaml") if file.stem != "base")
    nearest = get_close_matches(option, options, n=1)
    hint = f"; did you mean {group}={nearest[0]}?" if nearest else "."
    choices = f" Options: {', '.join(options)}." if options else ""
    return f"{group}={option} does not exist{hint}{choices}"


def _about(text: str) -> str:
    """OmegaConf's sentence and the key it is about, without its lines of internals."""
    key, sentence = _full_key(text), _first_line(text)
    return f"{key}: {sentence}" if key else sentence


def _full_key(text: str) -> str:
    """The key OmegaConf says its error is about, "" where it says none."""
    match = re.search(r"full_key: (\S+)", text)
    return match[1] if match else ""


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0].rstrip(".")
