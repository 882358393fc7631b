"""Celery with a Redis server as its broker and its store of results: `python -m tests.resp.with_celery PORT`. What came out, as JSON."""

import json
import sys
from typing import Any

from celery import Celery, chain, chord, group
from celery.contrib.testing.worker import start_worker

WAIT_S = 30


def main(port: str) -> None:
    url = f"redis://127.0.0.1:{port}/0"
    app = Celery("tests", broker=url, backend=url)
    app.conf.broker_connection_retry_on_startup = True

    @app.task
    def double(n: int) -> int:
        return 2 * n

    @app.task
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task
    def fail() -> None:
        raise ValueError("as it should")

    @app.task(bind=True, max_retries=3)
    def again(self: Any) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0.1)
        return int(self.request.retries)

    with start_worker(app, perform_ping_check=False, pool="solo", loglevel="error", shutdown_timeout=WAIT_S):
        failed = fail.delay()
        found = {
            "tasks": [task.get(timeout=WAIT_S) for task in [double.delay(n) for n in range(10)]],
            "chain": chain(double.s(1), double.s(), double.s())().get(timeout=WAIT_S),
            "group": group(double.s(n) for n in range(5))().get(timeout=WAIT_S),
            "chord": chord([double.s(n) for n in range(5)])(total.s()).get(timeout=WAIT_S),
            "retries": again.delay().get(timeout=WAIT_S),
            "failed": repr(failed.get(timeout=WAIT_S, propagate=False)),
            "later": double.apply_async((21,), countdown=0.2).get(timeout=WAIT_S),
        }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
