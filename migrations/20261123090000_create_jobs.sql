-- A job and where it is in its life. The request is written once; the columns below it change with
-- every transition and carry no index of their own except the partial ones that the reaper needs, so
-- that updates stay within their page.
create table jobs (
    job_id uuid primary key,
    tenant text not null,

    -- the request
    input text not null,
    output text not null,
    if_exists text not null check (if_exists in ('fail', 'overwrite')),
    upscale jsonb not null,
    class text not null check (class in ('interactive', 'bulk')),
    priority integer not null,
    max_attempts integer not null check (max_attempts > 0),
    not_before timestamptz,
    finish_by timestamptz,
    labels jsonb not null,
    traceparent text,
    created_at timestamptz not null default now(),

    -- the life
    state text not null check (
        state in ('scheduled', 'queued', 'running', 'succeeded', 'failed', 'cancelled', 'expired')
    ),
    version bigint not null default 1,
    attempt integer not null default 0,
    failures integer not null default 0,
    lease_token bigint,
    lease_until timestamptz,
    -- the multipart upload of the attempt that holds the lease, so that it can be aborted
    upload_id text,
    -- set while the coordinator makes the result visible; `publication` says what it set out to do
    publishing boolean not null default false,
    publication jsonb,
    progress jsonb,
    cost bigint,
    timings jsonb,
    warnings jsonb not null default '[]',
    result jsonb,
    error jsonb,
    started_at timestamptz,
    finished_at timestamptz,

    check (output <> input),
    check ((state = 'running') = (lease_token is not null)),
    check ((state = 'running') = (lease_until is not null)),
    check (not publishing or (state = 'running' and publication is not null)),
    -- one direction only: what an end requires is written just before it, in the same transaction
    check (state <> 'succeeded' or result is not null),
    check (state <> 'failed' or error is not null),
    check ((state in ('succeeded', 'failed', 'cancelled', 'expired')) = (finished_at is not null))
) with (fillfactor = 80);

-- Lists are read newest first within a tenant; ids sort by time.
create index jobs_by_tenant on jobs (tenant, job_id desc);
-- The reaper's two questions.
create index jobs_running on jobs (lease_until) where state = 'running';
create index jobs_with_deadline on jobs (finish_by)
where finish_by is not null and state in ('scheduled', 'queued');
-- "Is this output some job's input?", asked at submission and at publication.
create index jobs_by_input on jobs using hash (input);

-- Fencing tokens only grow, over all jobs and attempts.
create sequence lease_tokens as bigint;

-- Every attempt's story. Kept after the job's end.
create table attempts (
    job_id uuid not null references jobs on delete cascade,
    attempt integer not null,
    lease_token bigint not null,
    worker_id text not null,
    outcome text not null check (
        outcome in ('running', 'succeeded', 'failed', 'lost', 'handed_back', 'cancelled')
    ),
    error jsonb,
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    primary key (job_id, attempt),
    check ((outcome = 'running') = (ended_at is null))
);
