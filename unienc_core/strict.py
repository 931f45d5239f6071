"""Plain data into pydantic models, with no value bent to fit: `true` is not 1, "3" is not 3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from unienc_core.errors import PresetError

ModelT = TypeVar("ModelT", bound=BaseModel)


def validate_strictly(model: type[ModelT], data: Mapping[str, Any], where: str) -> ModelT:
    """Validate plain data; a whole number may be a float and a list a tuple, nothing else is bent.

    Args:
        model: What the data shall be.
        data: Mappings, lists, strings, numbers, booleans and nulls.
        where: Where the data came from, for the message.

    Raises:
        ValidationError: If the data does not fit.
        PresetError: If it is not plain (a date, a set), or nested too deeply.
    """
    try:
        # By way of JSON, where alone pydantic's strictness lets a list become a tuple.
        text = json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise PresetError(f"{where}: not plain data: {error}") from None
    return model.model_validate_json(text, strict=True)
