"""What a call wants of how its answer is drawn and of its form, free of any dialect. Names and values are those of chat
completions, which dialects translate; who cannot say one is not asked (`providers/wire/spoken.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampling:
    """None, or no stop: as the provider has it. `response_format` is of the type json_object or json_schema."""

    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_format: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Sampling":
        """From values under their names, among others; lists as JSON has them."""
        said = {field.name: given[field.name] for field in fields(cls) if given.get(field.name) is not None}
        return cls(**{**said, "stop": tuple(said.get("stop", ()))})

    def as_value(self) -> dict[str, Any]:
        """What is wanted, as JSON."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: list(value) if name == "stop" else value for name, value in said.items() if value not in (None, ())
        }

    @property
    def form(self) -> str | None:
        """The type of the answer's form: json_object or json_schema."""
        return None if self.response_format is None else str(self.response_format["type"])

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema that the answer is to have."""
        if self.form != "json_schema" or self.response_format is None:
            return None
        schema: Mapping[str, Any] = self.response_format["json_schema"]["schema"]
        return schema

    @property
    def wishes(self) -> tuple[str, ...]:
        """What is wanted, by name; of a form, its type."""
        named = self.as_value()
        named.pop("response_format", None)
        return (*named, *([] if self.form is None else [self.form]))


UNSAID = Sampling()
