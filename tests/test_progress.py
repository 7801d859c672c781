"""The progress report on a terminal and in a batch log."""

import io

import pytest

from cardiotwin.progress import Progress


class Clock:
    """Seconds that grow when told."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def run(stream, *, step=10.0, seconds=1.0, t1=100.0, **settings):
    clock = Clock()
    with Progress(t1, stream=stream, clock=clock, **settings) as progress:
        clock.now += 20.0  # compilation
        t = 0.0
        while t < t1:
            t += step
            clock.now += seconds
            progress(t)
    return stream.getvalue()


def test_batch_log_gets_a_line_every_tenth():
    lines = run(io.StringIO(), step=1.0, seconds=0.1, nodes=1000, dt=0.02).splitlines()
    assert len(lines) == 10
    # 10 ms a second from the first call on; 1000 nodes / 0.02 ms = 50,000 node-steps a ms
    assert lines[4] == "beat: 50/100 ms, 10 ms/s, 500 k node-steps/s, 0:05 left"
    assert lines[-1] == "beat: 100/100 ms, 0:30 taken, 10 ms/s, 500 k node-steps/s"


def test_slow_run_reports_every_half_minute():
    lines = run(io.StringIO(), step=1.0, seconds=15.0, t1=20.0).splitlines()
    assert len(lines) == 11  # every second call, and the last
    assert "left" in lines[3]


def test_compilation_does_not_count_as_speed():
    first, second = run(io.StringIO(), step=50.0, seconds=5.0).splitlines()
    assert first == "beat: 50/100 ms"
    assert second == "beat: 100/100 ms, 0:30 taken, 10 ms/s"


def test_terminal_gets_a_bar():
    text = run(Terminal(), step=25.0, label="tune")
    assert "compiling" in text
    assert "tune 100 %|" in text
    assert "25 ms/s" in text


def test_disabled_is_silent():
    assert run(io.StringIO(), enabled=False) == ""


def test_end_must_follow_start():
    with pytest.raises(ValueError, match="not after its start"):
        Progress(5.0, t0=5.0)
