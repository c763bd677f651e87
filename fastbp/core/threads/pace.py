"""How many steps compiled code makes at a time, and on how many threads."""

from __future__ import annotations

import functools
import math
import statistics
from collections import deque
from collections.abc import Hashable

from fastbp.core.threads import team

SLICE_SECONDS = 0.03  # time of one compiled call: Ctrl-C and the bar wait no longer
TRIAL_SECONDS = 0.004  # duration of a trial of the slower number of threads,
TRIAL_SOON, TRIAL_EVERY = 8, 60  # after each change 8 times that later, then 16, 32 and always 60 times that, or
WORTH_EPOCH = 0.005  # seconds of an epoch on one thread, below which no other number is tried
MOST_SLOWER = 4  # more rarely in proportion to how much slower it was, up to so many times


class Pace:
    """How many steps the next slice makes, and on how many threads: as many as have been measured to be fastest.

    On a shared machine, two threads that wait for each other can be much slower than one; as the bits are the same, the
    number can change at any time. The speed of a number of threads is the median of its last three slices that count:
    one disturbance does not decide. But the first long slice, as with large steps, counts three times, with the time of
    the slice before if that was shorter; so after each change the other number is soon tried again. The first slice
    after a pause, or with another number of threads, wakes them and does not count.
    """

    def __init__(self, thread_counts: list[int]):
        self.recent: dict[int, deque[float]] = {n: deque(maxlen=3) for n in thread_counts}  # seconds of a step
        self.latest = dict.fromkeys(thread_counts, 1e-9)  # seconds of a step, whether they count or not
        self.longest = dict.fromkeys(thread_counts, 1)  # steps of the next slice at the most: no leaps on one figure
        self.best = thread_counts[0]
        self.trial = thread_counts[0] if len(thread_counts) > 1 else None  # number of threads; first, each is tried
        self.since_trial, self.until_trial = 0.0, TRIAL_SOON  # seconds; how many times a trial's length to wait
        self.awake, self.ended = 0, -math.inf  # threads of the last slice, and when it ended
        self.waking = 0  # slices in a row that woke threads
        self.alone = 0.0  # seconds of a step on one thread, in the last slice whose code was there

    def seconds(self, threads: int) -> float:
        """Of a step."""
        return statistics.median(self.recent[threads]) if self.recent[threads] else math.inf

    def worth_trying(self, steps: int) -> bool:
        """Whether an epoch of so many steps takes so long that other threads could pay: to wake them costs up to half a
        millisecond, and 15 fits of 64-32-10 (500 samples, 20 epochs) took 5 times the processor's time with them."""
        return self.alone * steps > WORTH_EPOCH

    def next_slice(self, most: int, worth_trying: bool = True) -> tuple[int, int]:
        """(steps, threads)."""
        if not worth_trying:
            one = next(iter(self.recent))
            return max(1, min(most, self.longest[one], round(SLICE_SECONDS / self.latest[one]))), one
        other = next((n for n in self.recent if n != self.best), self.best)
        if self.trial is None and other != self.best:
            slower = min(MOST_SLOWER, self.seconds(other) / self.seconds(self.best))
            if self.since_trial > self.until_trial * slower * max(TRIAL_SECONDS, self.seconds(self.best)):
                self.trial, self.until_trial = other, min(2 * self.until_trial, TRIAL_EVERY)
        threads, length = (self.best, SLICE_SECONDS) if self.trial is None else (self.trial, TRIAL_SECONDS)
        return max(1, min(most, self.longest[threads], round(length / self.latest[threads]))), threads

    def took(self, steps: int, threads: int, started: float, ended: float, most: int) -> None:
        """Take note of a slice's time; it could have had `most` steps."""
        seconds, wakes = ended - started, threads != self.awake or started - self.ended > team.PAUSE
        self.awake, self.ended = threads, ended
        self.since_trial += seconds
        previous, self.latest[threads] = self.latest[threads], max(1e-9, seconds / steps)
        first, self.longest[threads] = self.longest[threads] == 1, max(self.longest[threads], 2 * steps)
        long_enough = seconds > TRIAL_SECONDS / 4 or steps == most
        self.waking = self.waking + 1 if wakes and long_enough else 0
        if first:  # it loads or compiles code
            return
        if threads == next(iter(self.recent)):
            self.alone = seconds / steps
        if seconds > SLICE_SECONDS:  # so long that waking is a small part of it
            known = self.recent[threads]
            known.extend([seconds / steps] if known else 3 * [min(previous, seconds / steps)])
        elif long_enough and (not wakes or self.waking > 3):  # where each slice comes after a pause, waking is its cost
            self.recent[threads].append(seconds / steps)
        else:
            return
        unknown = [n for n, recent in self.recent.items() if len(recent) < 3]
        if self.trial is not None and unknown:
            self.trial = unknown[0]
        elif self.trial is not None:
            faster = seconds / steps < self.seconds(self.best) <= self.seconds(self.trial)  # only of late: go on
            if not faster:
                self.trial, self.since_trial = None, 0.0
        fastest = min(self.recent, key=self.seconds)
        if fastest != self.best:
            self.best, self.until_trial = fastest, TRIAL_SOON


@functools.lru_cache(maxsize=64)
def pace_of(thread_counts: tuple[int, ...], *task: Hashable) -> Pace:
    """The Pace of a task, the same for all trainers that have it: what one has found out need not be measured again."""
    return Pace(list(thread_counts))
