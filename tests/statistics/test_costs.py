"""Costs of contenders, and which are on the Pareto front; against brute force."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from podium.statistics.costs import NO_COST, Cost, cost_of, mean_cost, pareto_front


def test_costs_are_those_of_the_closing_record() -> None:
    done = {"latency_ms": 2.5, "parameters": 1000, "seconds": 30.0, "device": "cpu"}
    assert cost_of(done, 4_000_000) == Cost(2.5, 1000, 4.0, 30.0, "cpu")
    # of an earlier version, without weights
    assert cost_of({"parameters": 1000}, None) == Cost(parameters=1000)
    assert cost_of({"latency_ms": 0, "seconds": "long"}, None) == NO_COST


def test_the_mean_over_runs_needs_them_all() -> None:
    first, second = Cost(2.0, 10, 4.0, 30.0, "cpu"), Cost(4.0, 10, 4.0, None, "cpu")
    assert mean_cost([first, second]) == Cost(3.0, 10, 4.0, None, "cpu")


def test_the_mean_of_times_on_two_devices_is_the_time_of_none() -> None:
    first, second = Cost(2.0, 10, 4.0, 30.0, "cpu"), Cost(4.0, 20, 4.0, 50.0, "cuda")
    assert mean_cost([first, second]) == Cost(None, 15, 4.0, None, None)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text("abcdefg", min_size=1, max_size=2),
        st.tuples(st.integers(0, 5), st.none() | st.integers(1, 5)),
        max_size=8,
    )
)
def test_the_front_is_what_no_other_beats(given: dict[str, tuple[int, int | None]]) -> None:
    front = pareto_front(
        {name: float(merit) for name, (merit, _) in given.items()},
        {name: cost for name, (_, cost) in given.items()},
    )
    known = {name: (merit, cost) for name, (merit, cost) in given.items() if cost is not None}
    for merit, cost in known.values():
        beaten = any(
            other[0] >= merit and other[1] <= cost and other != (merit, cost)
            for other in known.values()
        )
        # of two that are the same in both, one is enough
        same = [other for other in front if known[other] == (merit, cost)]
        assert beaten == (not same)
        assert len(same) <= 1
    merits = [known[name][0] for name in front]
    assert merits == sorted(merits, reverse=True)
