"""Devices by name, and resources that run out as one kind of error."""

import errno

import pytest
import torch

from unienc_core.device import resolve_device, resource_errors
from unienc_core.errors import DataError, ResourceError, UsageError


def test_names():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "cuda"])
def test_a_device_that_is_not_there(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=f"--device {name}: found no CUDA device"):
        resolve_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cpu:0", ""])
def test_a_name_that_means_nothing(name):
    with pytest.raises(UsageError, match="expected auto, cpu, cuda or cuda:N"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. x\ny"), "Tried|GPU"),
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: x"), "memory"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), "disk full at f"),
        (OSError(errno.EDQUOT, "Quota exceeded", "f"), "disk full at f"),
        (OSError(errno.EROFS, "Read-only file system", "f"), "not writable at f"),
        (Exception("I/O error: No space left on device (os error 28)"), "disk full"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "fewer workers"),
    ],
)
def test_what_runs_out(error, said):
    with pytest.raises(ResourceError, match=said) as caught, resource_errors("training"):
        raise error
    assert caught.value.exit_code == 5
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [DataError("x"), RuntimeError("shapes differ"), FileNotFoundError("x"), KeyError("x")]
)
def test_other_errors_pass(error):
    with pytest.raises(type(error)) as caught, resource_errors("training"):
        raise error
    assert caught.value is error
