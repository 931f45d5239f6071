"""Running a node through `torch.compile`, which may lack what it needs on a machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from unienc_core.errors import UsageError


def compiled(module: nn.Module, where: str) -> Callable[..., Any]:
    """Return what calls `module` compiled; the module itself stays as it is.

    Args:
        module: A node; it is compiled at the first call.
        where: Its place in the preset, for the message.

    Raises:
        UsageError: By the call, if the compiler does not work here.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    run = torch.compile(module)

    def call(*args: Any) -> Any:
        try:
            return run(*args)
        except (TorchDynamoException, InductorError) as error:
            line = " ".join(str(error).split("Set TORCHDYNAMO_VERBOSE")[0].split())
            raise UsageError(
                f"{where}.compile: torch.compile does not work here: {line[:300]}; it needs a C++ "
                "compiler (g++) with Python's headers, for CUDA Triton as well; install these or "
                "set it to false"
            ) from error

    return call
