"""The keys of a configuration as people read them, taken from the JSON schema of :class:`RunConfig`."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from warmray.config import RunConfig
from warmray.errors import InputError, nearest

WIDEST = 120
"""Columns; longer lines are hard to read."""


@dataclass(frozen=True)
class ConfigKey:
    """A key, or a section of keys (then without type and default)."""

    name: str
    """As ``--set`` takes it, such as ``train.doses``."""
    type: str | None
    """With limits, such as ``number > 0``."""
    default: str | None
    """As YAML; None where the key must be given."""
    meaning: str
    """The docstring of the field, or of the section's class."""


def config_keys() -> list[ConfigKey]:
    """Return every section and key of :class:`RunConfig`, in the order of the tree."""
    schema = RunConfig.model_json_schema()
    return list(_keys_below("", schema, schema["$defs"]))


def _keys_below(prefix: str, section: dict[str, Any], definitions: dict[str, Any]) -> Iterator[ConfigKey]:
    nested_sections: list[ConfigKey] = []
    for name, field in section["properties"].items():
        # A section stands in the tree as a reference; an optional one as "a reference or null".
        references = [part["$ref"] for part in (field, *field.get("anyOf", [])) if "$ref" in part]
        nested = definitions[references[0].rpartition("/")[2]] if references else {}
        if "properties" in nested:
            meaning = _prose(field.get("description") or nested["description"])
            nested_sections.append(ConfigKey(prefix + name, None, None, meaning))
            nested_sections += _keys_below(f"{prefix}{name}.", nested, definitions)
        else:
            default = _value_text(field["default"]) if "default" in field else None
            meaning = _prose(field.get("description", ""))
            yield ConfigKey(prefix + name, _type_text(field, definitions), default, meaning)
    yield from nested_sections


def _prose(docstring: str) -> str:
    """Return a docstring as one paragraph, with YAML's word for None."""
    return re.sub(r"\bNone\b", "null", " ".join(docstring.replace("``", "`").split()))


def _value_text(value: object) -> str:
    """Return a value as ``--set`` takes it."""
    return value if isinstance(value, str) else json.dumps(value)


LIMITS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}


def _type_text(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """Return the type and the limits of a JSON schema, such as ``number > 0`` or ``list of warm | cold``."""
    if "$ref" in schema:
        nested = definitions[schema["$ref"].rpartition("/")[2]]
        return f"{{{', '.join(nested['properties'])}}}" if "properties" in nested else _type_text(nested, definitions)
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type_text(option, definitions) for option in schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "prefixItems" in schema:
        return f"[{', '.join(_type_text(item, definitions) for item in schema['prefixItems'])}]"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        fewest = f"{schema['minItems']} or more of " if "minItems" in schema else ""
        return f"list of {fewest}{_type_text(schema.get('items', {}), definitions)}"
    limits = ", ".join(f"{sign} {schema[limit]:g}" for limit, sign in LIMITS.items() if limit in schema)
    return f"{'text' if kind == 'string' else kind} {limits}".strip()


def print_keys(name: str | None, config: RunConfig | None) -> None:
    """Print all keys, a section, or one key in full; with a configuration, also the values that it sets.

    Raises:
        InputError: there is no such key.
    """
    keys = config_keys()
    if name is not None:
        known = [key.name for key in keys]
        if name not in known:
            raise InputError(f"unknown key {name!r}{nearest(name, known)} (`warmray config` lists all keys)")
        keys = [key for key in keys if key.name == name or key.name.startswith(f"{name}.")]
    values = _values(config.model_dump(mode="json")) if config else {}
    console = Console(highlight=False)
    in_full = len(keys) == 1
    for key in keys:
        is_section = key.type is None
        meaning = key.meaning if in_full or is_section else _first_sentence(key.meaning)
        head = key.name if is_section else _wrapped(_head(key, values.get(key.name)), console, 2, 6)
        if is_section and key is not keys[0]:
            print()
        text = Text(f"{head}\n{_wrapped(meaning, console, 4, 4)}")
        text.highlight_regex(rf"^\s*{re.escape(key.name)}", "bold" if is_section else "bold cyan")
        text.highlight_regex(r" -> .+?(?=  \()", "bold green")
        console.print(text, soft_wrap=True)


def _head(key: ConfigKey, value: str | None) -> str:
    default = "(required)" if key.default is None else key.default
    changed = f" -> {value}" if value is not None and value != key.default else ""
    return f"{key.name} = {default}{changed}  ({key.type})"


def _wrapped(text: str, console: Console, first_indent: int, indent: int) -> str:
    width = min(console.width, WIDEST)
    first, others = " " * first_indent, " " * indent
    return textwrap.fill(text, width, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)


def _first_sentence(meaning: str) -> str:
    sentence, stop, _ = meaning.partition(". ")
    return sentence + stop.strip()


def _values(tree: dict[str, Any], prefix: str = "") -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            values |= _values(value, f"{prefix}{name}.")
        else:
            values[prefix + name] = _value_text(value)
    return values
