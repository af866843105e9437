"""What runs next: batches, priorities, clients, models, and waiting for others."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcpu.serve.request import Policy, Request
from tests.serve.simulation import Simulation, all_batches, made, names, order, put, reachable, teach


class TestBatches:
    def test_are_filled_in_order_up_to_the_budget(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100))
        request = put(scheduler, 60, 40, 50, 60, 1, payload="a")
        assert [[e.index for e in b.entries] for b in all_batches(scheduler)] == [[0, 1], [2], [3, 4]]
        assert request.waiting == 0
        assert not request.cancelled

    def test_tell_what_they_hold(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100))
        request = put(scheduler, 30, 40)
        clock.now = 2.5
        batch = scheduler.take()
        assert batch is not None
        assert (batch.model, batch.tokens, batch.started) == ("m", 70, 2.5)
        assert [(e.request, e.index, e.length) for e in batch.entries] == [(request, 0, 30), (request, 1, 40)]

    def test_a_longer_sequence_is_a_batch_of_its_own(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100))
        put(scheduler, 10, 500, 10, 10)
        assert [b.tokens for b in all_batches(scheduler)] == [10, 500, 20]

    def test_rows_are_bounded(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, batch_rows=3))
        put(scheduler, *[5] * 7)
        assert [len(b.entries) for b in all_batches(scheduler)] == [3, 3, 1]

    def test_are_of_one_model(self) -> None:
        _, scheduler = made(Policy(), other=Policy())
        for model in ("m", "other", "m", "other"):
            put(scheduler, 10, model=model)
        assert [(b.model, len(b.entries)) for b in all_batches(scheduler)] == [("m", 2), ("other", 2)]

    def test_nothing_waits(self) -> None:
        _, scheduler = made(Policy())
        assert scheduler.take() is None
        assert scheduler.due() is None

    @pytest.mark.parametrize("wrong", [{"lengths": []}, {"lengths": [3, 0]}, {"priority": 8}, {"priority": -1}])
    def test_wrong_requests(self, wrong: dict[str, object]) -> None:
        with pytest.raises(ValueError, match=r"sequence|priority"):
            Request(**({"model": "m", "lengths": [1], "payload": None} | wrong))  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "wrong",
        [{"batch_tokens": 0}, {"batch_rows": 0}, {"max_delay": -1.0}, {"max_wait": -1.0}, {"weight": 0.0}],
    )
    def test_wrong_policies(self, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="must"):
            Policy(**wrong)  # type: ignore[arg-type]

    def test_a_request_is_submitted_once(self) -> None:
        _, scheduler = made(Policy())
        request = put(scheduler, 1)
        with pytest.raises(ValueError, match="once"):
            scheduler.submit(request)


class TestPriorities:
    def test_the_more_urgent_is_first(self) -> None:
        _, scheduler = made(Policy(batch_tokens=10))
        for priority in (3, 7, 0, 3, 1):
            put(scheduler, 10, payload=priority, priority=priority)
        assert order(scheduler) == [0, 1, 3, 3, 7]

    def test_what_waited_for_long_counts_as_most_urgent(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=10), aging=1.0)
        put(scheduler, 10, payload="old", priority=7)
        clock.now = 0.5
        put(scheduler, 10, payload="young", priority=5)
        put(scheduler, 10, payload="urgent", priority=0)
        clock.now = 0.999
        assert names(scheduler.take()) == ["urgent"]
        clock.now = 1.0
        put(scheduler, 10, payload="late", priority=0)
        assert order(scheduler) == ["old", "late", "young"]

    def test_who_is_given_a_share_does_not_become_urgent(self) -> None:
        """What has waited for long behind its own client's sequences does not go before another client's new one."""
        clock, scheduler = made(Policy(batch_tokens=10), aging=1.0)
        put(scheduler, *[10] * 100, payload="much", client="a")
        for _ in range(50):
            clock.now += 0.5
            assert names(scheduler.take()) == ["much"]
        put(scheduler, 10, payload="urgent", client="c", priority=0)
        put(scheduler, 10, payload="new", client="b")
        assert order(scheduler)[:3] == ["urgent", "new", "much"]

    @pytest.mark.parametrize("clients", [1, 2, 10**9], ids=["the same client", "another client", "ever new clients"])
    def test_a_flood_of_urgent_ones_starves_nobody(self, clients: int) -> None:
        """Sequences of the least priority start soon after they have aged, at 1.25 times the capacity."""
        clock, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=1000), aging=1.0)
        simulation = Simulation(clock, scheduler, seconds=lambda _, tokens: 1e-3 * tokens)
        for number in range(4000):
            request = Request("m", [10], None, priority=0, client=f"flood {number % clients + (clients > 1)}")
            simulation.arrive(number * 0.008, request)
        slow = simulation.arrive(2.001, Request("m", [10] * 10, None, priority=7, client="flood 0"))
        simulation.run()
        assert simulation.rejected
        assert slow.waiting == 0
        last = max(simulation.started[slow, index] for index in range(10))
        assert last - slow.arrived < (2.0 if clients < 3 else 12.0)


class TestClients:
    def test_a_thousand_sequences_of_one_do_not_hold_up_another(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100))
        put(scheduler, *[20] * 1000, payload="much", client="a")
        for _ in range(7):
            assert names(scheduler.take()) == ["much"] * 5
        put(scheduler, 20, payload="one", client="b")
        assert "one" in names(scheduler.take())

    def test_a_large_request_does_not_hold_up_small_ones_of_others(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100))
        simulation = Simulation(clock, scheduler, seconds=lambda _, tokens: 0.01 * tokens)
        large = simulation.arrive(0.0, Request("m", [50] * 100, None, client="a"))
        small = simulation.arrive(10.5, Request("m", [20], None, client="b"))
        simulation.run()
        assert simulation.started[small, 0] == pytest.approx(11.0)
        assert simulation.ended[large, 99] == pytest.approx(50.2)

    @given(st.integers(0, 10**6), st.integers(1, 100), st.integers(1, 100), st.integers(100, 300))
    @settings(max_examples=60, deadline=None)
    def test_tokens_are_shared_equally(self, seed: int, longest: int, other: int, budget: int) -> None:
        """As long as both wait, neither is ahead by more than the longest sequence."""
        random = Random(seed)
        a, b = [[random.randint(1, most) for _ in range(60)] for most in (longest, other)]
        _, scheduler = made(Policy(batch_tokens=budget))
        left = {"a": put(scheduler, *a, client="a"), "b": put(scheduler, *b, client="b")}
        had = Counter({"a": 0, "b": 0})
        while all(request.waiting for request in left.values()):
            batch = scheduler.take()
            assert batch is not None
            for entry in batch.entries:
                had[entry.request.client] += entry.length
                assert abs(had["a"] - had["b"]) <= max(a + b) or not all(r.waiting for r in left.values())

    @given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 100))
    @settings(max_examples=60, deadline=None)
    def test_a_newcomer_is_in_one_of_the_next_two_batches(self, seed: int, after: int, length: int) -> None:
        random = Random(seed)
        _, scheduler = made(Policy(batch_tokens=100))
        put(scheduler, *(random.randint(1, 100) for _ in range(random.randint(1, 80))), client="a")
        for _ in range(after):
            scheduler.take()
        put(scheduler, length, payload="new", client="b")
        assert "new" in names(scheduler.take()) or "new" in names(scheduler.take())

    def test_a_sequence_longer_than_the_budget_makes_no_debt_for_others(self) -> None:
        """Its client pays for it; one that comes after is not behind by more than a batch."""
        _, scheduler = made(Policy(batch_tokens=100))
        put(scheduler, 10_000, 10, payload="long", client="b")
        put(scheduler, *[10] * 1000, payload="short", client="a")
        assert names(scheduler.take()) == ["long"]
        put(scheduler, 10, payload="new", client="c")
        assert "new" in names(scheduler.take()) + names(scheduler.take())
        assert "long" not in [name for _ in range(95) for name in names(scheduler.take())]

    def test_what_was_taken_is_paid_for_by_the_next_request(self) -> None:
        _, scheduler = made(Policy(batch_tokens=10))
        put(scheduler, 50, payload="a", client="a")
        put(scheduler, *[10] * 20, payload="b", client="b")
        assert names(scheduler.take()) == ["a"]
        put(scheduler, 50, payload="a", client="a")
        assert order(scheduler).index("a") in (4, 5, 6)

    def test_the_cancelled_is_not_paid_for(self) -> None:
        _, scheduler = made(Policy(batch_tokens=10))
        gone = put(scheduler, *[10] * 50, payload="gone", client="a")
        put(scheduler, 10, payload="a", client="a")
        put(scheduler, *[10] * 5, payload="b", client="b")
        scheduler.cancel(gone)
        assert order(scheduler).index("a") <= 1

    def test_one_clients_sequences_keep_their_order(self) -> None:
        _, scheduler = made(Policy(batch_tokens=50))
        for number in range(20):
            put(scheduler, 7 * number % 40 + 1, payload=number, client="a")
        assert order(scheduler) == list(range(20))

    def test_who_has_left_is_forgotten(self) -> None:
        _, scheduler = made(Policy(batch_tokens=12))
        put(scheduler, *[8] * 4000, client="busy", priority=0)
        before = reachable(scheduler)
        for number in range(3000):
            put(scheduler, 4, client=f"client {number}", priority=0)
            scheduler.done(scheduler.take() or pytest.fail("something waits"), 0.0)
        assert reachable(scheduler) < before + 1000

    def test_urgent_ones_of_one_do_not_make_another_pay(self) -> None:
        """Tokens are shared within a priority: what others had at another one is not counted."""
        _, scheduler = made(Policy(batch_tokens=10))
        put(scheduler, *[10] * 30, payload="a", client="a", priority=3)
        put(scheduler, *[10] * 500, client="c", priority=0)
        for _ in range(500):
            scheduler.take()
        put(scheduler, 10, payload="b", client="b", priority=3)
        assert "b" in order(scheduler)[:2]


class TestModels:
    def shares(self, first: Policy, second: Policy, speeds: tuple[float, float], workers: int = 1) -> list[float]:
        """Seconds that two models with endless work are given in 100 s."""
        clock, scheduler = made(first, other=second)
        speed = dict(zip(("m", "other"), speeds, strict=True))
        simulation = Simulation(clock, scheduler, workers, lambda model, tokens: speed[model] * tokens)
        for model in speed:
            simulation.arrive(0.0, Request(model, [50] * 6000, None))
        simulation.run(100.0)
        used = Counter(b.model for b in simulation.batches)
        return [used[model] * 100 * speed[model] for model in speed]

    def test_share_the_time_and_not_the_tokens(self) -> None:
        policy = Policy(batch_tokens=100, max_queue_tokens=10**6)
        slow, fast = self.shares(policy, policy, (1e-2, 1e-3))
        assert slow == pytest.approx(fast, abs=1.1)

    @pytest.mark.parametrize("workers", [1, 3])
    def test_weights(self, workers: int) -> None:
        heavy = Policy(batch_tokens=100, max_queue_tokens=10**6, weight=3.0)
        light = Policy(batch_tokens=100, max_queue_tokens=10**6)
        first, second = self.shares(heavy, light, (2e-3, 5e-3), workers)
        assert first + second == pytest.approx(100.0 * workers, rel=0.02)
        assert first == pytest.approx(3 * second, rel=0.05)

    def test_several_workers_do_not_all_choose_the_same(self) -> None:
        policy = Policy(batch_tokens=10)
        for known in (False, True):
            _, scheduler = made(policy, other=policy)
            if known:
                teach(scheduler, 0.01)
                teach(scheduler, 0.01, "other")
            for model in ("m", "other"):
                put(scheduler, *[10] * 10, model=model)
            taken = [scheduler.take() for _ in range(4)]
            assert Counter(b.model for b in taken if b) == {"m": 2, "other": 2}

    def test_idle_time_gives_no_credit(self) -> None:
        policy = Policy(batch_tokens=10)
        clock, scheduler = made(policy, other=policy)
        simulation = Simulation(clock, scheduler, seconds=lambda _, tokens: 0.1 * tokens)
        simulation.arrive(0.0, Request("m", [10] * 60, None))
        simulation.arrive(40.0, Request("other", [10] * 30, None))
        simulation.run()
        both = [b.model for b in simulation.batches if 40.5 < b.started < 59.5]
        assert abs(both.count("m") - both.count("other")) <= 1

    def test_idle_time_gives_no_credit_to_several_workers(self) -> None:
        policy = Policy(batch_tokens=10)
        _, scheduler = made(policy, other=policy)
        for model in ("m", "other"):
            teach(scheduler, 0.1, model)
        put(scheduler, *[10] * 50)
        for _ in range(40):
            scheduler.done(scheduler.take() or pytest.fail("it waits"), 1.0)
        put(scheduler, *[10] * 10, model="other")
        taken = [scheduler.take() for _ in range(4)]
        assert Counter(b.model for b in taken if b) == {"m": 2, "other": 2}

    def test_what_was_charged_is_corrected(self) -> None:
        """A batch that took longer than estimated is paid for: 5 s at twice the weight are 2.5 s."""
        _, scheduler = made(Policy(batch_tokens=10, weight=2.0), other=Policy(batch_tokens=10))
        for model in ("m", "other"):
            teach(scheduler, 0.1, model)
            put(scheduler, *[10] * 20, model=model)
        first = scheduler.take()
        assert first is not None
        scheduler.done(first, 5.0)
        taken = []
        for _ in range(4):
            batch = scheduler.take()
            assert batch is not None
            taken.append(batch.model)
            scheduler.done(batch, 1.0)
        assert taken == ["other", "other", "other", "m"]

    def test_a_refund_is_no_credit_from_before(self) -> None:
        """What an idle model was charged too much counts only from when it has work again."""
        policy = Policy(batch_tokens=10)
        _, scheduler = made(policy, other=policy)
        teach(scheduler, 10.0)
        teach(scheduler, 0.1, "other")
        put(scheduler, 10)
        first = scheduler.take()
        assert first is not None
        put(scheduler, *[10] * 100, model="other")
        for _ in range(50):
            scheduler.done(scheduler.take() or pytest.fail("other waits"), 1.0)
        put(scheduler, *[10] * 20)
        scheduler.done(first, 1.0)
        taken = []
        for _ in range(10):
            batch = scheduler.take()
            assert batch is not None
            taken.append(batch.model)
            scheduler.done(batch, 1.0)
        assert 4 <= taken.count("m") <= 6

    def test_removal(self) -> None:
        _, scheduler = made(Policy(batch_tokens=10))
        partly, wholly = put(scheduler, 10, 10), put(scheduler, 10)
        running = scheduler.take()
        assert running is not None
        assert scheduler.remove("m") == [partly, wholly]
        assert (partly.cancelled, partly.waiting, wholly.waiting) == (True, 0, 0)
        assert not scheduler.cancel(wholly)
        with pytest.raises(KeyError):
            put(scheduler, 10)
        scheduler.add("m", Policy(max_wait=0.0))
        scheduler.done(running, 1e6)  # of the model that was removed: not learned
        put(scheduler, 10)
        assert scheduler.waiting("m").seconds == 0
        with pytest.raises(ValueError, match="'m'"):
            scheduler.add("m", Policy())


class TestDelay:
    def test_a_sequence_waits_for_others(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100, max_delay=0.5))
        clock.now = 1.0
        put(scheduler, 40, payload="a")
        clock.now = 1.3
        put(scheduler, 40, payload="b")
        assert scheduler.due() == 1.5
        clock.now = 1.49
        assert scheduler.take() is None
        clock.now = 1.5
        assert names(scheduler.take()) == ["a", "b"]
        assert scheduler.due() is None

    @pytest.mark.parametrize("policy", [Policy(100, None, 0.5), Policy(1000, 2, 0.5)], ids=["tokens", "rows"])
    def test_a_full_batch_runs_at_once(self, policy: Policy) -> None:
        clock, scheduler = made(policy)
        put(scheduler, 60)
        assert scheduler.take() is None
        clock.now = 0.1
        put(scheduler, 60)
        assert scheduler.due() == 0.1
        assert scheduler.take() is not None

    def test_what_is_left_over_still_waits_from_its_arrival(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100, max_delay=0.5))
        put(scheduler, 80)
        clock.now = 0.2
        put(scheduler, 80)
        assert len(all_batches(scheduler)) == 1
        assert scheduler.due() == 0.7

    def test_no_delay_beyond_the_deadline(self) -> None:
        """Unknown speed: no wait for others. Known speed: it starts early enough."""
        clock, scheduler = made(Policy(batch_tokens=1000, max_delay=1.0))
        put(scheduler, 100, deadline=0.9)
        assert scheduler.due() == 0.0
        assert len(all_batches(scheduler)) == 1
        teach(scheduler, 0.001)
        put(scheduler, 100, deadline=0.9)
        due = scheduler.due()
        assert due == pytest.approx(0.75)
        clock.now = due or 0.0
        assert scheduler.take() is not None

    def test_of_two_models_the_one_that_is_due(self) -> None:
        clock, scheduler = made(Policy(max_delay=1.0), other=Policy())
        put(scheduler, 10)
        clock.now = 0.5
        put(scheduler, 10, model="other")
        assert [b.model for b in all_batches(scheduler)] == ["other"]
        clock.now = 1.0
        assert [b.model for b in all_batches(scheduler)] == ["m"]
