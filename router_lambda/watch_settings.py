"""The settings of the Lambdas that no request waits for: of the budget, of the gauges and of the canary.

Apart from the router's, whose cold start would wait for each class here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from router_lambda.settings import (
    is_private,
    missing,
    raise_any,
    read_amount,
    read_budget,
    read_gpu_tag,
    read_number,
    read_redis_url,
    read_tag,
)

DEFAULT_GPU_TYPE: Final = "g4dn.xlarge"

BILL_HOURS: Final = range(25)
"""How many hours an answer of Cost Explorer may be used for; 0 asks at every run."""


@dataclass(frozen=True, slots=True)
class CostSettings:
    """What the cost publisher needs to know.

    Attributes:
        bucket: where `guard/spend.json` lies: the bucket of the replies.
        budget_eur: the month's cap in EUR.
        fixed_usd_per_month: what costs the same whether the GPU runs or not, in USD a month.
        gpu_usd_per_hour: what an instance costs while it runs, in USD.
        gpu_type: EC2's name of the GPU's type, whose hours are metered and so left out of the bill.
        fallback_eur_per_usd: the exchange rate where the ECB's is not to be had.
        bill_hours: how long an answer of Cost Explorer, which costs USD 0.01, is used for, in hours; 0 asks at every
            run.
        cost_tag: name and value of the cost allocation tag whose costs alone count; unset: those of the whole account.
    """

    bucket: str
    budget_eur: float
    fixed_usd_per_month: float
    gpu_usd_per_hour: float
    fallback_eur_per_usd: float
    gpu_type: str = DEFAULT_GPU_TYPE
    bill_hours: int = 0
    cost_tag: tuple[str, str] | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> CostSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems = missing(environment, ("TLFIF_BUCKET",))
        budget = read_budget(environment, problems)
        fixed = read_amount(environment, "TLFIF_FIXED_USD_PER_MONTH", problems, allows_zero=True)
        gpu = read_amount(environment, "TLFIF_GPU_USD_PER_HOUR", problems)
        fallback = read_amount(environment, "TLFIF_FALLBACK_EUR_PER_USD", problems)
        hours = read_number(environment, "TLFIF_BILL_HOURS", 0, BILL_HOURS, problems)
        tag = read_tag(environment, "TLFIF_COST_TAG", "project=tl-fif", problems)
        raise_any(problems)
        gpu_type = environment.get("TLFIF_GPU_TYPE") or DEFAULT_GPU_TYPE
        return cls(environment["TLFIF_BUCKET"], budget, fixed, gpu, fallback, gpu_type, hours, tag)


@dataclass(frozen=True, slots=True)
class GaugesSettings:
    """What the gauges need to know.

    Attributes:
        redis_url: `redis://` or `rediss://` address of the queue.
        gpu_tag: name and value of the EC2 tag that marks the GPU's instances.
    """

    redis_url: str
    gpu_tag: tuple[str, str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> GaugesSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems: list[str] = []
        url, gpu_tag = read_redis_url(environment, problems), read_gpu_tag(environment, problems)
        raise_any(problems)
        return cls(url, gpu_tag)


@dataclass(frozen=True, slots=True)
class CanarySettings:
    """What the canary needs to know.

    Attributes:
        url: the API's address, without a slash at its end; `https`, or `http` on loopback.
    """

    url: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> CanarySettings:
        """Read the settings.

        Raises:
            RouterConfigError: the address is missing or wrong.
        """
        problems = missing(environment, ("TLFIF_URL",))
        url = environment.get("TLFIF_URL", "")
        if url and not (is_private(url) and _is_bare(url)):
            problems.append("write TLFIF_URL like https://host/stage: what comes back by any other way proves nothing")
        raise_any(problems)
        return cls(url.rstrip("/"))


def _is_bare(url: str) -> bool:
    """Tell whether an address has no query or fragment, so that a path can be added to it."""
    return "?" not in url and "#" not in url


@dataclass(frozen=True, slots=True)
class KillerSettings:
    """What the budget killer needs to know.

    Attributes:
        bucket: where `guard/block.json` lies: the bucket of the replies.
        gpu_tag: name and value of the EC2 tag that marks the GPU's instances.
        budget_eur: the month's cap in EUR.
    """

    bucket: str
    gpu_tag: tuple[str, str]
    budget_eur: float

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> KillerSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems = missing(environment, ("TLFIF_BUCKET",))
        gpu_tag, budget = read_gpu_tag(environment, problems), read_budget(environment, problems)
        raise_any(problems)
        return cls(environment["TLFIF_BUCKET"], gpu_tag, budget)
