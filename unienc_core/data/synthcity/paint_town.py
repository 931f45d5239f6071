"""Painters of what stands still: facades, leaves, masonry, fences, and plain surfaces."""

from __future__ import annotations

import numpy as np

from unienc_core.data.synthcity.hits import Channels, Hits, mix, step
from unienc_core.data.synthcity.noise import band, hash01, noise, pulses
from unienc_core.data.synthcity.shapes import TOP

F = np.float32


def grain(hits: Hits, texel: float) -> np.ndarray:
    """Noise over the surface with details of `texel` m."""
    footprint = np.maximum(hits.fb, hits.fa * F(0.6))
    return noise(hits.a + hits.spread(hits.seed * F(1.37)), hits.b, footprint, texel)


def plain(hits: Hits, contrast: float) -> Channels:
    """One colour with noise; options: contrast, size of the grain in dm."""
    scale = F(1.0 / 0.12) / np.maximum(hits.option(1), F(0.05))
    zoom = hits.spread(scale)
    footprint = np.maximum(hits.fb, hits.fa * F(0.6))
    footprint *= zoom
    u = hits.a * zoom
    u += hits.spread(hits.seed * F(1.37) * scale)
    tone = noise(u, hits.b * zoom, footprint, 1.0)
    tone *= hits.spread(hits.option(0) * F(1.2 * contrast))
    tone += F(1.0)
    return [tone * hits.color(0, c) for c in range(3)]


def foliage(hits: Hits, contrast: float) -> Channels:
    """Leaves; two crossed look-ups, so that no side of a round crown is smeared."""
    shift = hits.spread(hits.seed * F(1.37))
    footprint = np.maximum(hits.fb, hits.fa * F(0.5))
    clump = noise(hits.a + shift, hits.b + F(0.4) * hits.c, footprint, 0.045)
    clump += noise(hits.c - shift, hits.b + F(0.4) * hits.a, footprint, 0.045)
    clump *= F(0.44 * contrast)
    tone = np.maximum(clump + F(1.0), F(0.25))
    rgb = [tone * hits.color(0, c) for c in range(3)]
    np.clip(clump, F(-0.3), F(0.6), out=clump)
    clump *= F(0.12)
    rgb[0] += clump
    return rgb


def facade(hits: Hits, contrast: float) -> Channels:
    """Storeys of windows over a shop floor; options: storey, spacing, duties, style, salt."""
    upright = hits.spread(F(1.0) - hits.on(TOP))
    columns = np.maximum(np.rint(hits.width / hits.option(1)), F(1.0))
    per_metre = hits.spread(columns / hits.width)
    u, fu = hits.a * per_metre, hits.fa * per_metre
    per_metre = hits.spread(F(1.0) / hits.option(0))
    v, fv = (hits.b - F(0.35)) * per_metre, hits.fb * per_metre
    under_roof = step(hits.spread(hits.height - F(0.55)) - hits.b, hits.fb)
    rgb = _wall(hits, contrast)
    upper = band(hits.b, hits.fb, 3.6, 1e4)
    upper *= upright
    upper *= under_roof
    duty_u, duty_v = hits.option(2), hits.option(3)
    frame = _panes(hits, (u, v), (fu, fv), (duty_u + F(0.10), duty_v + F(0.10)))
    frame *= upper
    pane = _panes(hits, (u, v), (fu, fv), (duty_u, duty_v))
    pane *= upper
    column, row = np.floor(u), np.floor(v)
    sharp = np.clip(F(1.0) - fu, 0.0, 1.0)
    pane *= F(1.0) - sharp * band(np.abs(u - column - F(0.5)), fu, -1.0, 0.025)
    glow = hash01(column, row, hits.spread(hits.option(5)))
    glow -= F(0.45)
    glow *= sharp
    glow *= F(0.45 * contrast)
    np.maximum(glow, F(-0.1), out=glow)
    shop = band(hits.b, hits.fb, 0.5, 2.75)
    shop *= upright
    shop *= pulses(hits.a * F(1 / 3.1) - F(0.06), hits.fa * F(1 / 3.1), 0.8)
    ledge = band(hits.b, hits.fb, 2.95, 3.5)
    ledge *= upright
    cornice = (F(1.0) - under_roof) * upright
    for c, turns in enumerate((3.0, 7.0, 11.0)):
        trim, glass = hits.color(1, c), hits.color(2, c)
        # A colour of its own for every house, without drawing one more.
        accent = hits.option(4) * F(turns)
        accent = F(0.22) + F(0.55) * np.abs(accent - np.floor(accent) - F(0.5))
        mix(rgb[c], frame, trim)
        mix(rgb[c], pane, glass + glow)
        mix(rgb[c], shop, glass + F(0.06))
        mix(rgb[c], ledge, hits.spread(accent))
        mix(rgb[c], cornice, trim * F(0.9))
    return rgb


def _wall(hits: Hits, contrast: float) -> Channels:
    """Plaster with stains, or courses of brick, by style."""
    tone = grain(hits, 0.03)
    tone *= F(0.24)
    stains = noise(hits.a * F(0.7) + hits.spread(hits.seed), hits.b * F(0.25), hits.fa, 0.12)
    stains *= F(0.20)
    tone += stains
    course = pulses(hits.b * F(3.2), hits.fb * F(3.2), 0.12)
    course *= hits.spread((hits.option(4) > F(0.55)) * F(0.18))
    tone -= course
    tone *= F(contrast)
    tone += F(1.0)
    return [tone * hits.color(0, c) for c in range(3)]


def _panes(
    hits: Hits,
    at: tuple[np.ndarray, np.ndarray],
    extent: tuple[np.ndarray, np.ndarray],
    duty: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """Return the share of rectangles centred in unit cells."""
    shift_u, shift_v = (hits.spread((F(1.0) - d) * F(0.5)) for d in duty)
    out = pulses(at[0] - shift_u, extent[0], hits.spread(duty[0]))
    out *= pulses(at[1] - shift_v, extent[1], hits.spread(duty[1]))
    return out


def brick(hits: Hits, contrast: float) -> Channels:
    """Courses of stones with lighter joints; options: stone length and height, m."""
    long, tall = hits.spread(F(1.0) / hits.option(0)), hits.spread(F(1.0) / hits.option(1))
    v, fv = hits.b * tall, hits.fb * tall
    row = np.floor(v)
    u, fu = hits.a * long + row * F(0.5), hits.fa * long
    joint = np.maximum(pulses(u, fu, 0.06), pulses(v, fv, 0.1))
    sharp = np.clip(F(1.0) - np.maximum(fu, fv), 0.0, 1.0)
    tone = (hash01(np.floor(u), row, hits.spread(hits.seed)) - F(0.5)) * sharp * F(0.45)
    tone += joint * F(0.25)
    tone += grain(hits, 0.03) * F(0.2)
    tone *= F(contrast)
    tone += F(1.0)
    return [tone * hits.color(0, c) for c in range(3)]


def fence(hits: Hits, contrast: float) -> Channels:
    """Bars before the green behind; options: spacing in m, share of the bars."""
    per_metre = hits.spread(F(1.0) / hits.option(0))
    bars = pulses(hits.a * per_metre, hits.fa * per_metre, hits.spread(hits.option(1)))
    top = step(hits.b - hits.spread(hits.height - F(0.12)), hits.fb)
    bars = np.maximum(np.maximum(bars, band(hits.b, hits.fb, 0.1, 0.2)), top)
    tone = grain(hits, 0.05) * F(0.25 * contrast)
    tone += F(1.0)
    rgb = [hits.color(1, c) * tone * F(0.8) for c in range(3)]
    for c in range(3):
        mix(rgb[c], bars, hits.color(0, c))
    return rgb
