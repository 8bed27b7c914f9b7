"""Frozen values: how our prices differ from those of the price list, and which of the list's prices were applied."""

import hashlib
import json
from dataclasses import dataclass
from datetime import date
from typing import Literal

from llm.types import ModelPrices


@dataclass(frozen=True)
class PriceChange:
    """A difference between a model's prices in the history and new ones, from a day on."""

    provider_id: str
    model_name: str
    valid_from: date
    old: ModelPrices
    new: ModelPrices
    # The old ones were set by hand, and are only overwritten on demand.
    by_hand: bool
    # "kept": they were to be applied, but the old ones were set by hand.
    outcome: Literal["listed", "applied", "kept"] = "listed"

    @property
    def name(self) -> str:
        return f"{self.provider_id}/{self.model_name}"


@dataclass(frozen=True)
class PricesReport:
    """How our prices differ from those of the list, and which of the list's prices were applied."""

    changes: tuple[PriceChange, ...]
    # "provider/model"
    unchanged: tuple[str, ...]
    # Models that are not in the list, or without prices for input and output that we can use.
    unknown: tuple[str, ...]
    # Models that are being retired, according to the list.
    deprecated: tuple[str, ...] = ()
    # Models whose mark as being retired is not what the list says.
    deprecation: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The sha256 of all that applying the list could change, so that a person applies what they saw."""
        changes = [
            (change.name, change.valid_from.isoformat(), change.old.as_document(), change.new.as_document())
            for change in self.changes
        ]
        by_hand = [change.by_hand for change in self.changes]
        return hashlib.sha256(json.dumps([changes, by_hand, self.deprecation], sort_keys=True).encode()).hexdigest()
