"""Taking turns."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hy3dgen.service.queue import FairQueue


def test_a_single_job_does_not_wait_behind_all_of_somebody_elses() -> None:
    queue = FairQueue()
    for number in range(5):
        queue.add("many", f"many{number}")
    queue.add("one", "one0")
    assert queue.order() == ["many0", "one0", "many1", "many2", "many3", "many4"]


@given(st.lists(st.sampled_from("abc"), max_size=20), st.integers(0, 20))
def test_order_says_what_take_does(clients: list[str], taken: int) -> None:
    queue = FairQueue()
    for number, client in enumerate(clients):
        queue.add(client, f"{client}{number}")
    for _ in range(taken):
        queue.take()
    expected = queue.order()
    assert len(queue) == len(expected)
    assert [queue.take() for _ in expected] == expected
    assert queue.take() is None


def test_what_had_its_turn_comes_first_and_what_is_removed_does_not_come() -> None:
    queue = FairQueue()
    queue.add("a", "a0")
    queue.add("b", "b0")
    queue.add_first("b", "again")
    assert queue.remove("a0")
    assert not queue.remove("a0")
    assert queue.order() == ["again", "b0"]
    assert queue.waiting_of("b") == 2
    assert queue.waiting_of("a") == 0
