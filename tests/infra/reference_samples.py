"""What the generated pages could be made of: settings and variables of every kind, and some that nobody explains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from router_lambda.settings import RouterConfigError, missing, raise_any, read_number


class Sample(BaseSettings):
    """Settings with one of each kind."""

    model_config = SettingsConfigDict(env_prefix="SAMPLE_")

    cups: Annotated[int, Field(gt=0, lt=9)] = 3
    """How many cups."""

    name: Annotated[str, Field(pattern="^[a-z]+$")]
    """Whose coffee | tea it is."""

    is_hot: bool = True
    """Whether it is hot."""


class Unexplained(BaseSettings):
    """Settings with a field that nobody explains."""

    cups: int = 3


@dataclass(frozen=True, slots=True)
class Inner:
    """What another one holds.

    Attributes:
        bucket: where it
            is kept.
    """

    bucket: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings."""
        raise_any(missing(environment, ("TLFIF_BUCKET",)))
        return cls(environment["TLFIF_BUCKET"])


@dataclass(frozen=True, slots=True)
class Outer:
    """Settings like a function's.

    Attributes:
        cups: how many cups.
    """

    inner: Inner
    cups: int = 3

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings."""
        problems: list[str] = []
        cups = read_number(environment, "TLFIF_CUPS", 3, range(1, 10), problems)
        try:
            inner = Inner.from_environment(environment)
        except RouterConfigError as error:
            problems += error.problems
        raise_any(problems)
        return cls(inner, cups)


OF_A_MODULE: Final = """
variable "size" {
  description = "How large."
  type        = number

  validation {
    condition     = var.size > 0
    error_message = "A cup is more than nothing."
  }
}
"""
OF_A_ROOT: Final = """
module "cup" {
  source = "./modules/cup"

  size = var.cup_size
}

variable "cup_size" {
  description = "Size of a \\"cup\\"."
  type        = number
  default     = 3
}

variable "tag" {
  description = "Which."
  type = object({
    name  = string
    value = string
  })
}
"""
