"""Pictures in order whatever the decoder does, and an exact count of those that never came."""

import random

from unienc_core.inference.reorder import MAX_LATE, Reorder


def run(announced: list[int], given: list[int]) -> tuple[list[int], int]:
    """Announce everything, then take: the pts delivered, and how many were lost."""
    order: Reorder[str] = Reorder()
    for pts in announced:
        order.expect(pts)
    arrivals = [a for pts in given for a in order.take(f"p{pts}", pts)]
    arrivals += order.drain()
    assert all(a.picture == f"p{a.pts}" for a in arrivals)
    return [a.pts for a in arrivals], sum(a.num_lost for a in arrivals) + order.num_outstanding


def test_whole_streams_pass_without_a_wait() -> None:
    order: Reorder[int] = Reorder()
    for pts in (0, 3, 1, 2):  # order of decoding
        order.expect(pts)
    for pts in range(4):
        assert [a.pts for a in order.take(pts, pts)] == [pts]


def test_late_pictures_take_their_place() -> None:
    # What FFmpeg gives after losing 29 to 35 of a film with B-frames.
    assert run(list(range(26, 40)), [26, 36, 27, 37, 28, 38, 39]) == (
        [26, 27, 28, 36, 37, 38, 39],
        7,
    )


def test_what_comes_far_too_late_is_lost_once() -> None:
    order = [0, *range(2, 4 + MAX_LATE), 1, 30]
    delivered, lost = run([*range(4 + MAX_LATE), 30], order)
    assert delivered == [0, *range(2, 4 + MAX_LATE), 30]
    assert lost == 1


def test_every_picture_is_delivered_or_lost() -> None:
    for seed in range(300):
        rng = random.Random(seed)
        announced = list(range(60))
        given = [p for p in announced if rng.random() > 0.2]
        for i in range(len(given) - 1):
            if rng.random() < 0.2:
                given[i], given[i + 1] = given[i + 1], given[i]
        delivered, lost = run(announced, given)
        assert delivered == sorted(delivered)
        assert len(delivered) + lost == 60


def test_clocks_that_jump_back_lose_nothing() -> None:
    """Recordings glued together begin at zero again."""
    order: Reorder[int] = Reorder()
    delivered = []
    for pts in [*range(100, 110), *range(10)]:
        order.expect(pts)
        delivered += order.take(pts, pts)
    assert len(delivered) == 20
    assert sum(a.num_lost for a in delivered) + order.num_outstanding == 0
