"""Painters of vehicles, signs and traffic lights."""

from __future__ import annotations

import numpy as np

from unienc_core.data.synthcity.hits import Channels, Hits, mix, step
from unienc_core.data.synthcity.noise import band, pulses
from unienc_core.data.synthcity.paint_town import grain
from unienc_core.data.synthcity.shapes import BACK, BOTTOM, FRONT, LEFT, RIGHT, TOP

F = np.float32

HEADLAMP = (0.92, 0.92, 0.88)
TAIL_LAMP = (0.62, 0.05, 0.05)
WHEEL_AT = 0.31
"""Distance of a car's axles from its middle, in car lengths."""


def _paint(hits: Hits, strength: float) -> tuple[np.ndarray, Channels]:
    """Return a faint grain and the first colour modulated by it."""
    tone = grain(hits, 0.05)
    tone *= F(strength)
    return tone, [(tone + F(1.0)) * hits.color(0, c) for c in range(3)]


def _edge(hits: Hits) -> np.ndarray:
    """Distance to the nearer vertical edge of the face, m."""
    return np.minimum(hits.a, hits.spread(hits.width) - hits.a)


def body(hits: Hits, contrast: float) -> Channels:
    """Lower half of a car; options: length, height, wheel radius."""
    side = hits.spread(hits.on(RIGHT, LEFT))
    nose, tail = hits.spread(hits.on(FRONT)), hits.spread(hits.on(BACK))
    length, radius = hits.spread(hits.option(0)), hits.spread(hits.option(2))
    _, rgb = _paint(hits, 0.10 * contrast)
    along = hits.a - F(0.5) * length
    soft = np.maximum(hits.fa, hits.fb)
    du, dv = np.abs(along) - F(WHEEL_AT) * length, hits.b - radius + F(0.2)
    arch = step(radius * F(1.18) - np.sqrt(du * du + dv * dv), soft)
    sill = band(hits.b, hits.fb, -1.0, 0.14) * F(0.85)
    seams = band(np.abs(along - F(0.06) * length), hits.fa, 0.0, 0.02)
    doors = np.abs(np.abs(along - F(0.03) * length) - F(0.21) * length)
    seams += band(doors, hits.fa, 0.0, 0.02)
    seams *= band(hits.b, hits.fb, 0.15, 0.9) * F(0.7)
    np.maximum(seams, band(hits.b, hits.fb, 0.38, 0.41) * F(0.4), out=seams)
    dark = np.maximum(np.maximum(arch, seams) * side, sill)
    edge = _edge(hits)
    lamp = band(edge, hits.fa, 0.06, 0.38) * band(hits.b, hits.fb, 0.34, 0.56)
    grille = band(edge, hits.fa, 0.45, 2.0) * band(hits.b, hits.fb, 0.22, 0.46) * nose
    plate = band(hits.spread(hits.width * F(0.5)) - edge, hits.fa, -0.26, 0.26)
    plate *= band(hits.b, hits.fb, 0.2, 0.32) * (nose + tail)
    np.maximum(dark, grille, out=dark)
    for c in range(3):
        mix(rgb[c], dark, F(0.06))
        mix(rgb[c], lamp * nose, F(HEADLAMP[c]))
        mix(rgb[c], lamp * tail, F(TAIL_LAMP[c]))
        mix(rgb[c], plate, F(0.82))
    return rgb


def glazed(hits: Hits, contrast: float) -> Channels:
    """Upper half of a car: windows between pillars under a painted roof."""
    side = hits.spread(hits.on(RIGHT, LEFT))
    open_sky = hits.spread(F(1.0) - hits.on(TOP, BOTTOM))
    pane = step(hits.b - F(0.05), hits.fb)
    pane *= step(hits.spread(hits.height - F(0.09)) - hits.b, hits.fb)
    # The faces taper, so the pillars lean with them.
    lean = hits.b * (F(0.12) + F(0.22) * side)
    edge = _edge(hits)
    pane *= step(edge - lean - F(0.07), hits.fa)
    post = band(hits.spread(hits.width * F(0.5)) - edge, hits.fa, -0.05, 0.05)
    pane *= (F(1.0) - post * side) * open_sky
    tone, rgb = _paint(hits, 0.10 * contrast)
    tone += hits.b * hits.spread(F(0.14) / hits.height)
    for c in range(3):
        mix(rgb[c], pane, hits.color(1, c) + tone)
    return rgb


def coach(hits: Hits, contrast: float) -> Channels:
    """Bus, tram or cab: a row of windows; options: spacing, duty, low and high edge (share)."""
    side, nose = hits.spread(hits.on(RIGHT, LEFT)), hits.spread(hits.on(FRONT))
    tail = hits.spread(hits.on(BACK))
    per_height = hits.spread(F(1.0) / hits.height)
    share, soft = hits.b * per_height, hits.fb * per_height
    row = step(share - hits.spread(hits.option(2)), soft)
    row *= step(hits.spread(hits.option(3)) - share, soft)
    edge = _edge(hits)
    row *= step(edge - F(0.12), hits.fa)
    per_metre = hits.spread(np.maximum(np.rint(hits.width / hits.option(0)), F(1.0)) / hits.width)
    duty = hits.option(1)
    panes = pulses(
        hits.a * per_metre - hits.spread((F(1.0) - duty) * F(0.5)),
        hits.fa * per_metre,
        hits.spread(duty),
    )
    row *= side * panes + nose + tail * F(0.8)
    stripe = band(share, soft, 0.22, 0.32)
    skirt = band(share, soft, -1.0, 0.05) * F(0.8)
    lamp = band(edge, hits.fa, 0.1, 0.4) * band(share, soft, 0.1, 0.18)
    tone, rgb = _paint(hits, 0.12 * contrast)
    tone += F(0.12) * share
    for c in range(3):
        mix(rgb[c], stripe, hits.color(2, c))
        mix(rgb[c], row, hits.color(1, c) + tone)
        mix(rgb[c], skirt, F(0.08))
        mix(rgb[c], lamp * nose, F(HEADLAMP[c]))
        mix(rgb[c], lamp * tail, F(TAIL_LAMP[c]))
    return rgb


def wheel(hits: Hits, contrast: float) -> Channels:
    """A tyre around a lighter rim with spokes; option: radius."""
    del contrast
    radius = hits.spread(hits.option(0))
    du, dv = hits.a - radius, hits.b - radius
    r = np.sqrt(du * du + dv * dv)
    soft = np.maximum(hits.fa, hits.fb)
    rim = step(radius * F(0.62) - r, soft)
    rim *= F(1.0) - step(radius * F(0.16) - r, soft)
    rim *= F(0.6) + F(0.8) * np.abs(du * dv) / np.maximum(r * r, F(1e-4))
    rim *= hits.spread(hits.on(RIGHT, LEFT))
    rgb = [hits.color(0, c) for c in range(3)]
    for c in range(3):
        mix(rgb[c], rim, hits.color(1, c))
    return rgb


def sign(hits: Hits, contrast: float) -> Channels:
    """A plate with a white field, bar or rim; option: pattern 0..4, from 3 on rectangular."""
    del contrast
    pattern = hits.option(0)
    disc = hits.spread(pattern < F(2.5))
    wide, tall = hits.spread(F(2.0) / hits.width), hits.spread(F(2.0) / hits.height)
    u, v = hits.a * wide - F(1.0), hits.b * tall - F(1.0)
    soft = np.maximum(hits.fa * wide, hits.fb * tall)
    r = np.where(disc, np.sqrt(u * u + v * v), np.maximum(np.abs(u), np.abs(v)))
    field = step(np.where(disc, F(0.68), F(0.9)) - r, soft)
    bar = step(F(0.22) - np.abs(v), soft)
    bar *= step(F(0.5) - np.abs(u), soft)
    plain_field = hits.spread(pattern < F(0.5))
    white = np.where(plain_field, field, bar)
    white = np.maximum(white, np.where(disc, F(0.0), F(1.0) - field))
    rgb = [hits.color(0, c) for c in range(3)]
    for c in range(3):
        mix(rgb[c], white, hits.color(1, c))
    return rgb


def signal(hits: Hits, contrast: float) -> Channels:
    """Three lamps, one lit, on the back face; option: which."""
    del contrast
    facing = hits.spread(hits.on(BACK))
    u = hits.a - hits.spread(hits.width * F(0.5))
    soft = np.maximum(hits.fa, hits.fb)
    rgb = [hits.color(0, c) for c in range(3)]
    for k, lamp in enumerate(((0.1, 0.85, 0.35), (0.95, 0.65, 0.1), (0.95, 0.12, 0.08))):
        v = hits.b - hits.spread(hits.height * F((k + 0.5) / 3.0))
        on = step(F(0.125) - np.sqrt(u * u + v * v), soft) * facing
        power = hits.spread(np.where(hits.option(0) == F(k), F(1.5), F(0.22)))
        for c in range(3):
            mix(rgb[c], on, F(lamp[c]) * power)
    return rgb
