"""Tasks of several libraries in turn: a process for each, which has the machine while the others wait."""

import json
import statistics
import subprocess
import sys
import time


def serve(tasks):
    """In a child: for each line from the parent measure the task of that number; tasks: (name, call, times)."""
    tasks = list(tasks)
    print(json.dumps([name for name, _, _ in tasks]), flush=True)
    for line in sys.stdin:
        _, call, times = tasks[int(line)]
        call()
        started = time.perf_counter()
        for _ in range(times):
            call()
        print(json.dumps((time.perf_counter() - started) / times), flush=True)


def compare(commands, rounds):
    """By task, seconds of each side in each round; commands: by side, of a process that calls `serve`."""
    children = {side: subprocess.Popen([sys.executable, *command], text=True, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE) for side, command in commands.items()}
    names = [json.loads(child.stdout.readline()) for child in children.values()][0]
    seconds = {name: {side: [] for side in commands} for name in names}
    for i, name in enumerate(names):
        for turn in range(rounds):
            for side in list(commands)[:: 1 if turn % 2 == 0 else -1]:
                children[side].stdin.write(f"{i}\n")
                children[side].stdin.flush()
                seconds[name][side].append(json.loads(children[side].stdout.readline()))
    for child in children.values():
        child.stdin.close()
        child.wait()
    return seconds


def shown(seconds):
    return f"{seconds * 1e6:,.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.3g} ms" if seconds < 1 else (
        f"{seconds:,.3g} s")


def table(seconds):
    """Times of the first side, and of each other side with the ratios of the rounds' pairs: median, lowest, highest."""
    first, *others = next(iter(seconds.values()))
    rows = [f"| | {first} | " + " | ".join(f"{side} | times as fast | lowest, highest" for side in others) + " |",
            "|---|---|" + "---|---|---|" * len(others)]
    for name, sides in seconds.items():
        cells = [name, shown(statistics.median(sides[first]))]
        for side in others:
            ratios = sorted(b / a for a, b in zip(sides[first], sides[side], strict=True))
            cells += [shown(statistics.median(sides[side])), f"**{statistics.median(ratios):.1f}**",
                      f"{ratios[0]:.1f}, {ratios[-1]:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def about(rounds, *versions):
    from machine import describe

    return (f"{time.strftime('%Y-%m-%d')}; {', '.join([describe(), *versions])}; medians of {rounds} rounds in turn, "
            "and of the ratios of each round's pair; OPENBLAS_CORETYPE unset")
