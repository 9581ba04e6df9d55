"""Celery's side of `upres-bench queue`: no-op tasks in, out, and one at a time into an idle queue.
Prints one JSON object.

    peer.py --jobs N --singles N --at-once N        with AMQP_URL

As an archive would have to run it: durable queue, persistent messages, publisher confirms, late
acknowledgement. No result backend, which would only cost it time: nothing remembers a task that ended.
"""
import argparse
import json
import logging
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from celery import Celery
from celery.app.trace import setup_worker_optimizations
from celery.worker import WorkController

PAUSE_S = 0.02
DEADLINE_S = 300

parser = argparse.ArgumentParser()
for option in ("--jobs", "--singles", "--at-once"):
    parser.add_argument(option, type=int, required=True)
args = parser.parse_args()
logging.disable(logging.WARNING)

app = Celery("bench", broker=os.environ["AMQP_URL"])
app.conf.update(
    task_default_queue=f"celery-bench-{uuid.uuid4()}",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_pool_limit=args.at_once,
    broker_transport_options={"confirm_publish": True},
    worker_hijack_root_logger=False,
)
lock, ended, begun_at = threading.Lock(), threading.Semaphore(0), []


@app.task
def noop():
    with lock:
        if not begun_at:
            begun_at.append(time.perf_counter())
    ended.release()


@app.task
def single():
    picked_up.append(time.perf_counter())
    ended.release()


def wait_for(count):
    for _ in range(count):
        if not ended.acquire(timeout=DEADLINE_S):
            raise SystemExit("a task never ran")


with app.connection_for_write() as connection:
    app.amqp.queues[app.conf.task_default_queue].bind(connection.default_channel).declare()

started = time.perf_counter()
with ThreadPoolExecutor(args.at_once) as senders:
    for sent in [senders.submit(noop.apply_async) for _ in range(args.jobs)]:
        sent.result()
enqueue_per_s = args.jobs / (time.perf_counter() - started)

picked_up, waits = [], []
setup_worker_optimizations(app)
worker = WorkController(app=app, pool_cls="threads", concurrency=args.at_once, without_heartbeat=True,
                        without_mingle=True, without_gossip=True)
threading.Thread(target=worker.start, daemon=True).start()
wait_for(args.jobs)
drain_per_s = args.jobs / (time.perf_counter() - begun_at[0])
for _ in range(args.singles):
    time.sleep(PAUSE_S)
    submitted = time.perf_counter()
    single.apply_async()
    wait_for(1)
    waits.append(1000 * (picked_up[-1] - submitted))

waits.sort()
with app.connection_for_write() as connection:
    app.amqp.queues[app.conf.task_default_queue].bind(connection.default_channel).delete()
print(json.dumps({
    "enqueue_per_s": enqueue_per_s,
    "drain_per_s": drain_per_s,
    "pickup_p50_ms": waits[int((len(waits) - 1) * 0.5)],
    "pickup_p99_ms": waits[int((len(waits) - 1) * 0.99)],
}), flush=True)
os._exit(0)  # the worker's thread would go on
