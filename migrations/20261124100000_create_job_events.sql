-- What became of a job, a row for each change of its state, written by the statement that changes it.
-- Acceptance is not repeated here: the job's own row tells of it. Programs that follow a job remember
-- the version up to which they know it, so there is no other number.
create table job_events (
    job_id uuid not null references jobs on delete cascade,
    version bigint not null,
    state text not null,
    attempt integer not null,
    happened_at timestamptz not null default now(),
    primary key (job_id, version)
);
-- Rows are only ever added, and go with their jobs.
alter table job_events set (autovacuum_vacuum_scale_factor = 0.02);
