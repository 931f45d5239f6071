"""The rules once more, pixel by pixel in NumPy, as an oracle."""

import numpy as np


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixel centres at c' = s (c + 0.5) - 0.5, edges repeated."""
    made = np.empty(size)
    (h, w), (H, W) = image.shape, size
    for i in range(H):
        y = min(max((i + 0.5) * h / H - 0.5, 0), h - 1)
        y0 = min(int(y), h - 2) if h > 1 else 0
        for j in range(W):
            x = min(max((j + 0.5) * w / W - 0.5, 0), w - 1)
            x0 = min(int(x), w - 2) if w > 1 else 0
            y1, x1, a, b = min(y0 + 1, h - 1), min(x0 + 1, w - 1), y - y0, x - x0
            top = image[y0, x0] * (1 - b) + image[y0, x1] * b
            made[i, j] = top * (1 - a) + (image[y1, x0] * (1 - b) + image[y1, x1] * b) * a
    return made


def full_masks(masks: np.ndarray, input_size, size) -> np.ndarray:
    return np.stack([resize(resize(mask, input_size), size) for mask in masks])


def semantic(classes, masks, input_size, size) -> np.ndarray:
    probabilities, masks = softmax(classes), sigmoid(full_masks(masks, input_size, size))
    num_classes = classes.shape[1] - 1
    labels = np.empty(size, int)
    for i in range(size[0]):
        for j in range(size[1]):
            scores = [
                sum(probabilities[q, c] * masks[q, i, j] for q in range(len(masks)))
                for c in range(num_classes)
            ]
            labels[i, j] = int(np.argmax(scores))
    return labels


def panoptic(classes, masks, input_size, size, things, object_threshold, overlap_threshold):
    probabilities, masks = softmax(classes), sigmoid(full_masks(masks, input_size, size))
    ids, segments, stuff, number = np.zeros(size, int), {}, {}, 0
    kept = [
        q
        for q in range(len(classes))
        if probabilities[q].argmax() != classes.shape[1] - 1
        and probabilities[q].max() > object_threshold
    ]
    if not kept:
        return ids, segments
    owner = np.empty(size, int)
    for i in range(size[0]):
        for j in range(size[1]):
            owner[i, j] = max(kept, key=lambda q, i=i, j=j: probabilities[q].max() * masks[q, i, j])
    for q in kept:
        label = int(probabilities[q].argmax())
        owned, whole = owner == q, masks[q] >= 0.5
        final = owned & whole
        if not owned.any() or not whole.any() or not final.any():
            continue
        if owned.sum() / whole.sum() < overlap_threshold:
            continue
        if label not in things and label in stuff:
            ids[final] = stuff[label]
            continue
        number += 1
        segments[number] = label
        ids[final] = number
        if label not in things:
            stuff[label] = number
    return ids, segments


def instances(classes, masks, input_size, size, things, top_k):
    probabilities = softmax(classes)[:, :-1]
    masks = full_masks(masks, input_size, size)
    pairs = [(p, q, c) for q, row in enumerate(probabilities) for c, p in enumerate(row)]
    found = []
    for p, q, c in sorted(pairs, reverse=True)[:top_k]:
        inside = masks[q] > 0
        if c in things and inside.any():
            mean = sigmoid(masks[q])[inside].sum() / (inside.sum() + 1e-6)
            found.append((c, p * mean, inside))
    return sorted(found, key=lambda one: -one[1])
