"""Layers in float64 NumPy: the oracle of heads that are written once more from their formulas."""

import numpy as np
from torch import nn


class Layers:
    """The layers of a module by the names of its state dict, in evaluation mode."""

    def __init__(self, made: nn.Module) -> None:
        self.weights = {k: v.detach().double().numpy() for k, v in made.state_dict().items()}

    def conv(self, x, name, stride=1):
        """Correlate with zeros around, half a kernel wide."""
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias", 0.0)
        pad, (height, width) = weight.shape[2] // 2, x.shape[2:]
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        out = 0.0
        for i, j in np.ndindex(*weight.shape[2:]):
            window = padded[:, :, i : i + height : stride, j : j + width : stride]
            out = out + np.einsum("oc,bchw->bohw", weight[:, :, i, j], window)
        return out + np.reshape(bias, (1, -1, 1, 1))

    def norm(self, x, name):
        """Batch norm by its running statistics."""
        mean, variance, weight, bias = (
            self.weights[f"{name}.{part}"].reshape(1, -1, 1, 1)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias
