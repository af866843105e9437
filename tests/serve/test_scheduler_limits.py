"""What a scheduler refuses, drops and expects: bounds, cancelled requests, deadlines, estimates."""

from __future__ import annotations

from random import Random

import pytest

from fastcpu.serve.request import Policy, QueueFull, Request, TooLate
from fastcpu.serve.speed import Speed
from tests.serve.simulation import all_batches, made, names, order, put, reachable, teach


class TestBounds:
    def test_of_the_queue(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100))
        put(scheduler, 60)
        with pytest.raises(QueueFull):
            put(scheduler, 41)
        scheduler.room("m")
        put(scheduler, 40)
        with pytest.raises(QueueFull):
            scheduler.room("m")
        scheduler.take()
        scheduler.room("m")
        put(scheduler, 100)

    def test_a_request_larger_than_the_queue_needs_an_empty_one(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100))
        put(scheduler, 1)
        with pytest.raises(QueueFull):
            put(scheduler, 60, 60)
        scheduler.take()
        put(scheduler, 60, 60)
        assert scheduler.waiting("m").tokens == 120

    def test_of_one_client(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100), client_share=0.5)
        put(scheduler, 50, client="a")
        with pytest.raises(QueueFull):
            put(scheduler, 1, client="a")
        with pytest.raises(QueueFull):
            scheduler.room("m", "a")
        scheduler.room("m", "b")
        put(scheduler, 50, client="b")
        with pytest.raises(QueueFull):
            scheduler.room("m", "c")

    def test_a_request_larger_than_the_clients_part_needs_that_to_be_empty(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100), client_share=0.5)
        put(scheduler, 1, client="a")
        put(scheduler, 70, client="b")
        with pytest.raises(QueueFull):
            put(scheduler, 1, client="b")

    def test_room_knows_the_wait(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_wait=1.0))
        put(scheduler, 100, client="a")
        batch = scheduler.take()
        assert batch is not None
        scheduler.done(batch, 0.5)
        for _ in range(3):
            put(scheduler, 100, client="a")
        with pytest.raises(QueueFull, match="wait"):
            scheduler.room("m", "a")
        with pytest.raises(QueueFull, match="wait"):
            put(scheduler, 1, client="a")
        scheduler.room("m", "a", 0)
        scheduler.room("m", "b")

    def test_a_request_larger_than_the_queue_leaves_room_for_other_clients(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100))
        large = Request("m", [10] * 100, None, client="a")
        scheduler.submit(large)
        with pytest.raises(QueueFull):
            put(scheduler, 1, client="a")
        put(scheduler, 50, client="b")
        with pytest.raises(QueueFull):
            put(scheduler, 1, client="b")
        batch = scheduler.take()
        assert batch is not None
        assert {entry.request.client for entry in batch.entries} == {"a", "b"}
        scheduler.cancel(large)
        put(scheduler, 50, client="b")
        put(scheduler, 50, client="c")
        with pytest.raises(QueueFull):
            put(scheduler, 1, client="c")

    def test_a_rejected_request_may_be_submitted_again(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100))
        put(scheduler, 100)
        request = Request("m", [10], None)
        with pytest.raises(QueueFull) as refusal:
            scheduler.submit(request)
        assert refusal.value.retry_after == 1.0  # nothing is known of the speed
        scheduler.take()
        scheduler.submit(request)

    def test_retry_after_is_when_there_will_be_room(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=1000))
        teach(scheduler, 0.01)
        put(scheduler, 100)
        scheduler.take()
        put(scheduler, *[100] * 10)
        clock.now = 0.25
        with pytest.raises(QueueFull) as refusal:
            put(scheduler, 300)
        assert refusal.value.retry_after == pytest.approx(0.75 + 2.0)  # when the third batch from now is taken
        with pytest.raises(QueueFull) as refusal:
            scheduler.room("m")
        assert refusal.value.retry_after == pytest.approx(0.75)
        clock.now = 100.0
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=100))
        teach(scheduler, 1e-9)
        put(scheduler, 100)
        with pytest.raises(QueueFull) as refusal:
            scheduler.room("m")
        assert refusal.value.retry_after == 0.05

    def test_what_waits_is_counted(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100))
        teach(scheduler, 0.01)
        first, second = put(scheduler, 60, 60), put(scheduler, 30, client="b")
        found = scheduler.waiting("m")
        assert (found.requests, found.sequences, found.tokens) == (2, 3, 150)
        assert found.seconds == pytest.approx(1.5)
        scheduler.take()
        assert (first.waiting, second.waiting) == (1, 0)
        found = scheduler.waiting("m")
        assert (found.requests, found.sequences, found.tokens) == (1, 1, 60)
        assert found.seconds == pytest.approx(1.5)  # 90 tokens run


class TestCancel:
    def test_what_waits_never_runs(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=250))
        request = put(scheduler, 60, 60, 60, payload="a")
        other = put(scheduler, 60, payload="b")
        assert names(scheduler.take()) == ["a"]
        with pytest.raises(QueueFull):
            put(scheduler, 100)
        assert scheduler.cancel(request)
        assert (request.cancelled, request.waiting) == (True, 0)
        assert not scheduler.cancel(request)
        put(scheduler, 190, payload="c")
        assert order(scheduler) == ["b", "c"]
        assert not scheduler.cancel(other)
        assert other.cancelled

    def test_before_it_was_submitted(self) -> None:
        _, scheduler = made(Policy())
        request = Request("m", [1], None)
        assert not scheduler.cancel(request)
        with pytest.raises(ValueError, match="once"):
            scheduler.submit(request)

    def test_leaves_nothing_behind(self) -> None:
        """The memory after many cancelled requests is that of those that wait."""
        clock, scheduler = made(Policy())
        for number in range(200):
            put(scheduler, 10, client=f"a {number}", deadline=1e9)
        before = reachable(scheduler)
        for number in range(100_000):
            request = put(scheduler, 7, client=f"b {number % 1000}", deadline=1e8 + number, priority=number % 8)
            clock.now += 1e-4
            scheduler.cancel(request)
        assert reachable(scheduler) < 2 * before + 1000

    def test_many_at_once(self) -> None:
        _, scheduler = made(Policy(max_queue_tokens=10**6))
        requests = [put(scheduler, 7, client=f"{number % 50}", deadline=1e8 + number) for number in range(20_000)]
        left = requests[::100]
        for request in requests:
            if request not in left[:1]:
                scheduler.cancel(request)
        put(scheduler, 7, client="b", deadline=1e9)
        assert reachable(scheduler) < 2000
        assert scheduler.waiting("m").tokens == 14


class TestDeadlines:
    def test_that_have_passed(self) -> None:
        clock, scheduler = made(Policy())
        clock.now = 2.0
        with pytest.raises(TooLate) as refusal:
            put(scheduler, 10, deadline=2.0)
        assert refusal.value.retry_after == 0.05

    def test_nothing_runs_after_its_deadline(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100, max_queue_tokens=250))
        late = put(scheduler, 80, 80, payload="late", deadline=1.0)
        put(scheduler, 80, payload="free")
        assert names(scheduler.take()) == ["late"]
        clock.now = 1.0
        put(scheduler, 100, payload="new")  # there is room again
        assert order(scheduler) == ["free", "new"]
        assert (late.cancelled, late.waiting) == (True, 0)
        assert scheduler.expire() == [late]
        assert scheduler.expire() == []

    def test_who_is_done_or_cancelled_does_not_expire(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=10))
        for length in (10, 10):
            put(scheduler, length, deadline=1.0)
        scheduler.take()
        scheduler.cancel(scheduler.remove("m")[0])
        clock.now = 5.0
        assert scheduler.expire() == []

    def test_the_only_one_expires(self) -> None:
        clock, scheduler = made(Policy())
        request = put(scheduler, 10, deadline=1.0)
        clock.now = 1.5
        assert scheduler.take() is None
        assert scheduler.due() is None
        assert scheduler.expire() == [request]

    def test_that_cannot_be_met(self) -> None:
        """100 tokens run until 10 s, 50 wait until 15, a batch like the others takes 10 more, and 5 % for the error."""
        clock, scheduler = made(Policy(batch_tokens=100))
        teach(scheduler, 0.1)
        for _ in range(100):
            put(scheduler, 100)
            scheduler.done(scheduler.take() or pytest.fail("it waits"), 10.0)
        put(scheduler, 100)
        scheduler.take()
        put(scheduler, 50)
        clock.now = 4.0
        latest = 4 + 21 * 1.05
        with pytest.raises(TooLate) as refusal:
            put(scheduler, 20, deadline=latest - 1)
        assert refusal.value.retry_after == pytest.approx(1.0, abs=0.01)
        put(scheduler, 20, deadline=latest + 0.01)

    def test_an_urgent_request_does_not_count_what_comes_after_it(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100))
        teach(scheduler, 0.1)
        put(scheduler, 100, priority=5)
        put(scheduler, 10, priority=1)
        put(scheduler, 10, deadline=2.2, priority=1)  # 1 s of the other, and its own
        with pytest.raises(TooLate):
            put(scheduler, 10, deadline=2.9, priority=1)  # 2 s of others, and its own
        put(scheduler, 10, deadline=1.1, priority=0)

    def test_another_clients_many_count_only_as_far_as_they_go_first(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100))
        teach(scheduler, 0.1)
        put(scheduler, *[10] * 1000, client="a")
        put(scheduler, 20, client="b", deadline=4.3)
        with pytest.raises(TooLate):
            put(scheduler, 20, client="a", deadline=1000.0)

    def test_other_clients_are_expected_to_go_on(self) -> None:
        """While batches run full, as many tokens of the other client as of the own are expected to go first."""
        _, scheduler = made(Policy(batch_tokens=100))
        put(scheduler, *[100] * 100, client="a")
        all_batches(scheduler)
        teach(scheduler, 0.1)
        put(scheduler, 10, client="a")
        put(scheduler, 100, client="b")
        with pytest.raises(TooLate):
            put(scheduler, 10, client="b", deadline=30.0)
        put(scheduler, 10, client="b", deadline=34.0)  # 100 before, 110 of the other, and a batch of 100

    def test_a_wrong_estimate_locks_nobody_out(self) -> None:
        """However slow the model seems, one request that comes alone is tried."""
        _, scheduler = made(Policy(batch_tokens=100))
        teach(scheduler, 1000.0)
        put(scheduler, 10, deadline=1.0)
        with pytest.raises(TooLate):
            put(scheduler, 10, deadline=1.0)


class TestEstimates:
    def test_of_the_speed(self) -> None:
        random, speed = Random(1), Speed()
        for _ in range(200):
            tokens = random.randint(10, 1024)
            speed.learn(tokens, (0.02 + 1e-4 * tokens) * random.uniform(0.95, 1.05))
        for tokens in (100, 500, 1000):
            assert speed.seconds(tokens) == pytest.approx(0.02 + 1e-4 * tokens, rel=0.05)
        assert speed.seconds(0) == 0

    def test_from_batches_of_one_size(self) -> None:
        """The time is taken as proportional."""
        speed = Speed()
        assert not speed.known
        speed.learn(1000, 0.5)
        assert speed.known
        assert speed.seconds(500) == pytest.approx(0.25)

    @pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
    def test_failed_runs_teach_nothing(self, wrong: float) -> None:
        speed = Speed()
        speed.learn(1000, wrong)
        assert not speed.known

    @pytest.mark.parametrize("strange", [1e-6, 1e3])
    def test_a_strange_run_hardly_matters(self, strange: float) -> None:
        speed = Speed()
        for _ in range(30):
            speed.learn(1000, 0.1)
        speed.learn(1000, strange)
        assert speed.seconds(1000) == pytest.approx(0.1, rel=0.1)

    @pytest.mark.parametrize("change", [0.1, 10.0])
    def test_follow_a_change(self, change: float) -> None:
        speed = Speed()
        for seconds in [0.1] * 100 + [0.1 * change] * 100:
            speed.learn(1000, seconds)
        assert speed.seconds(1000) == pytest.approx(0.1 * change, rel=0.1)

    def test_of_the_wait(self) -> None:
        """What is refused would wait too long for what runs and waits; how long it takes itself does not matter."""
        _, scheduler = made(Policy(batch_tokens=100, max_wait=5.0))
        put(scheduler, 100)
        put(scheduler, *[100] * 100, client="b")  # nothing is known yet
        all_batches(scheduler)
        teach(scheduler, 0.01)
        put(scheduler, *[100] * 50)
        with pytest.raises(QueueFull) as refusal:
            put(scheduler, 10)
        assert refusal.value.retry_after > 40
        put(scheduler, *[100] * 50, priority=1)

    def test_what_fits_into_the_next_batch_waits_only_for_what_runs(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100, max_wait=0.3))
        teach(scheduler, 0.01)
        put(scheduler, 100)
        scheduler.take()
        clock.now = 0.8
        put(scheduler, 50)
        put(scheduler, 50)
        with pytest.raises(QueueFull):
            put(scheduler, 1)

    def test_several_workers_share_what_waits(self) -> None:
        """Batches of 1 s: three that began at 0, 0.2 and 0.4, and four that wait."""
        clock, scheduler = made(Policy(batch_tokens=100))
        teach(scheduler, 0.01)
        put(scheduler, *[100] * 7)
        for _ in range(3):
            scheduler.take()
            clock.now += 0.2
        assert scheduler.waiting("m").seconds == pytest.approx((0.4 + 0.6 + 0.8 + 4.0) / 3)

    def test_another_models_work_counts_by_its_weight(self) -> None:
        _, scheduler = made(Policy(batch_tokens=100, weight=2.0), other=Policy(batch_tokens=100))
        teach(scheduler, 0.01)
        teach(scheduler, 0.02, "other")
        put(scheduler, *[100] * 6)
        assert scheduler.waiting("m").seconds == pytest.approx(6.0)
        put(scheduler, 100, model="other")
        assert scheduler.waiting("m").seconds == pytest.approx(8.0)
        put(scheduler, *[100] * 9, model="other")
        assert scheduler.waiting("m").seconds == pytest.approx(9.0)

    def test_one_worker_of_two_is_free(self) -> None:
        clock, scheduler = made(Policy(batch_tokens=100, max_wait=0.7))
        teach(scheduler, 0.01)
        put(scheduler, 100, 100)
        first, _ = scheduler.take(), scheduler.take()
        clock.now = 0.5
        assert first is not None
        scheduler.done(first, 1.0)
        put(scheduler, 100)  # for the free one
        with pytest.raises(QueueFull) as refusal:
            put(scheduler, 10)
        assert "0.75 s" in str(refusal.value)
