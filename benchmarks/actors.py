"""Actors: tell, ask, restarts and memory, each beside the same done with Trio by hand, and beside other libraries."""

from __future__ import annotations

import gc
import json
import logging
import statistics
import subprocess
import sys
from collections.abc import Callable

from benchmarks import actors_rates as rates
from benchmarks.actors_tree import TreeCost
from benchmarks.rows import Row

ROUNDS = 9
MESSAGES = 20_000
RESTARTS = 2_000
TREE = 100_000
PEER = "the same counter as a {} actor, in the same rounds"


def measure(rounds: int = ROUNDS) -> list[Row]:
    """All rows; takes about two minutes."""
    # Each crash is logged; without a reader that is the cost of formatting a traceback, and no part of a restart.
    logging.disable(logging.CRITICAL)
    try:
        return [*_measure_rates(rounds), *_measure_tree()]
    finally:
        logging.disable(logging.NOTSET)


def _measure_rates(rounds: int) -> list[Row]:
    from benchmarks import actors_peers as peers  # needs the extra `bench`

    contenders: dict[str, tuple[Callable[[int], float], int]] = {
        "tell": (rates.tell_rate, MESSAGES),
        "tell by hand": (rates.channel_tell_rate, MESSAGES),
        "tell by pykka": (peers.pykka_tell_rate, MESSAGES),
        "tell by xoscar": (peers.xoscar_tell_rate, MESSAGES // 4),
        "ask": (rates.ask_rate, MESSAGES),
        "ask by hand": (rates.channel_ask_rate, MESSAGES),
        "ask by pykka": (peers.pykka_ask_rate, MESSAGES // 4),
        "ask by xoscar": (peers.xoscar_ask_rate, MESSAGES // 4),
        "restart": (rates.restart_rate, RESTARTS),
        "restart by hand": (rates.task_restart_rate, RESTARTS),
    }
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    # What half of SciPy has on the heap is no part of anybody's messages, nor is what the one before has left there.
    gc.freeze()
    # Interleaved, since a machine's speed drifts more between minutes than between neighbours.
    for _ in range(rounds):
        for name, (rate, count) in contenders.items():
            gc.collect()
            samples[name].append(rate(count))
    median = {name: statistics.median(values) for name, values in samples.items()}

    def row(name: str, what: str, peer: str, method: str) -> Row:
        return Row(name, median[what], "/s", median[f"{what} by {peer}"], rounds, method)

    room = f"{rates.ROOM} places"
    return [
        row("actor_tell", "tell", "hand", f"one task to one actor, against a memory channel to a task; {room} each"),
        row("actor_tell_over_pykka", "tell", "pykka", PEER.format("pykka") + "; its mailbox has no bound"),
        row("actor_tell_over_xoscar", "tell", "xoscar", PEER.format("xoscar")),
        row("actor_ask", "ask", "hand", f"one after the other, against a memory channel and an event; {room} each"),
        row("actor_ask_over_pykka", "ask", "pykka", PEER.format("pykka")),
        row("actor_ask_over_xoscar", "ask", "xoscar", PEER.format("xoscar")),
        row("actor_restart", "restart", "hand", "crash to ready, against a task in a nursery that is run again"),
    ]


def _measure_tree() -> list[Row]:
    actors, tasks = (_tree(kind) for kind in ("actors", "tasks"))
    above = (actors.resident_bytes - tasks.resident_bytes) / TREE
    method = f"{TREE} idle actors under one supervisor, against as many bare tasks in one nursery: "
    return [
        Row("actor_tree_start", actors.start_seconds, "s", tasks.start_seconds, 1, method + "start, one by one"),
        Row("actor_tree_stop", actors.stop_seconds, "s", tasks.stop_seconds, 1, method + "stop, actors one by one"),
        Row(
            "actor_memory",
            actors.resident_bytes / TREE,
            "B",
            tasks.resident_bytes / TREE,
            1,
            method + "resident bytes each, after one message",
        ),
        Row("actor_memory_above_task", above, "B", None, 1, "the difference of these two"),
    ]


def _tree(kind: str) -> TreeCost:
    command = [sys.executable, "-m", "benchmarks.actors_tree", kind, str(TREE)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    return TreeCost(**json.loads(done.stdout))
