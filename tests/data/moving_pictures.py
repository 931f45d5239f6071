"""Pictures of a camera that slides along a painted wall."""

import cv2
import numpy as np

SIZE = (96, 160)


def wall(seed: int, size: tuple[int, int] = SIZE, length: int = 600) -> np.ndarray:
    """A wall with soft blobs of all colours, `H length 3` uint8."""
    rng = np.random.default_rng(seed)
    paint = cv2.GaussianBlur(rng.uniform(0, 255, (size[0], length, 3)), (0, 0), 3)
    paint += 60 * cv2.GaussianBlur(rng.normal(size=(size[0], length, 3)), (0, 0), 12)
    return np.clip((paint - paint.mean()) * 5 + 128, 30, 255).astype(np.uint8)


def slide(
    seed: int, count: int, step: float = 2.0, size: tuple[int, int] = SIZE
) -> list[np.ndarray]:
    """`count` pictures, each `step` px further along the wall, `H W 3` uint8."""
    painted = wall(seed, size, int(size[1] + count * step) + 8)
    pictures = []
    for i in range(count):
        shift = np.array([[1.0, 0, -i * step], [0, 1, 0]])
        pictures.append(cv2.warpAffine(painted, shift, (size[1], size[0]), flags=cv2.INTER_LINEAR))
    return pictures


def noisy(image: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """A picture with the noise of a sensor."""
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
