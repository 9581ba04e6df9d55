// graphile-worker's side of `upres-bench queue`: no-op jobs in, out, and one at a time into an idle
// queue. Prints one JSON object.
//
//   peer.mjs --mode one|batch --jobs N --singles N --at-once N        with DATABASE_URL
//
// one: a call for each job, and a worker as it comes. batch: calls of 1,000 jobs, and a worker that
// fetches ahead and reports in batches.
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Logger, makeWorkerUtils, run } from "graphile-worker";

const text = { type: "string" };
const { values } = parseArgs({ options: { mode: text, jobs: text, singles: text, "at-once": text } });
const [jobs, singles, atOnce] = [values.jobs, values.singles, values["at-once"]].map(Number);
const inBatches = values.mode === "batch";
const connectionString = process.env.DATABASE_URL;

const CALL_SIZE = 1000;
const FETCH_AHEAD = 500;
const PAUSE_MS = 20;

const utils = await makeWorkerUtils({ connectionString, maxPoolSize: atOnce });
await utils.migrate();
await utils.withPgClient((client) => client.query("truncate graphile_worker._private_jobs"));

const seconds = (since) => (performance.now() - since) / 1000;

async function enqueueOneByOne() {
  let next = 0;
  const sender = async () => {
    while (next++ < jobs) await utils.addJob("noop", {});
  };
  await Promise.all(Array.from({ length: atOnce }, sender));
}

async function enqueueInBatches() {
  for (let sent = 0; sent < jobs; sent += CALL_SIZE) {
    const length = Math.min(CALL_SIZE, jobs - sent);
    await utils.addJobs(Array.from({ length }, () => ({ identifier: "noop", payload: {} })));
  }
}

const enqueueStarted = performance.now();
await (inBatches ? enqueueInBatches() : enqueueOneByOne());
const enqueuePerSecond = jobs / seconds(enqueueStarted);

// Finished jobs are deleted: an empty table is the end of the last.
async function untilEmpty() {
  for (;;) {
    const { rows } = await utils.withPgClient((client) =>
      client.query("select exists (select from graphile_worker._private_jobs) as waiting"),
    );
    if (!rows[0].waiting) return;
    await sleep(5);
  }
}

let drainStarted;
let pickedUp;
const taskList = {
  noop: () => {
    drainStarted ??= performance.now();
  },
  single: () => pickedUp(performance.now()),
};
const fast = { localQueue: { size: FETCH_AHEAD }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
const worker = { connectionString, concurrentJobs: atOnce, maxPoolSize: atOnce + 1, ...(inBatches ? fast : {}) };
const quiet = new Logger(() => () => {});
const runner = await run({ preset: { worker }, logger: quiet, taskList });
await untilEmpty();
const drainPerSecond = jobs / seconds(drainStarted);

const waits = [];
for (let single = 0; single < singles; single++) {
  await sleep(PAUSE_MS);
  const started = new Promise((resolve) => (pickedUp = resolve));
  const submitted = performance.now();
  const [, at] = await Promise.all([utils.addJob("single", {}), started]);
  waits.push(at - submitted);
  await untilEmpty();
}
await runner.stop();
await utils.release();

waits.sort((a, b) => a - b);
const percentile = (fraction) => waits[Math.floor((waits.length - 1) * fraction)];
console.log(
  JSON.stringify({
    enqueue_per_s: enqueuePerSecond,
    drain_per_s: drainPerSecond,
    pickup_p50_ms: percentile(0.5),
    pickup_p99_ms: percentile(0.99),
  }),
);
