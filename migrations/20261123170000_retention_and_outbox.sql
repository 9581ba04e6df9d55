-- Removing a job removes its idempotency key: without this, each removal would read them all.
create index idempotency_keys_by_job on idempotency_keys (job_id);

-- Every job passes through the outbox and leaves three dead rows there. Room in each page for the
-- versions of a row, and a vacuum that comes by number, not by share, keep it as small as its backlog.
alter table outbox set (
    fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000
);
-- A fifth of millions of jobs would be a long wait for a vacuum, and a long vacuum.
alter table jobs set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
alter table attempts set (autovacuum_vacuum_scale_factor = 0.02);
