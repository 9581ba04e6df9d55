-- A batch: many jobs from one source, expanded in the background. What it was asked for is written once;
-- how far the expansion is, and what its owner wants of it, changes.
create table batches (
    batch_id uuid primary key,
    tenant text not null,

    -- the request
    source jsonb not null,
    template jsonb not null,
    atomic boolean not null,
    labels jsonb not null,
    report text,
    -- what the key that made it reaches: every item is held against it
    read_prefixes text[] not null,
    write_prefixes text[] not null,
    created_at timestamptz not null default now(),

    -- the expansion: up to `position` every item is a job or a row of refused_items, exactly once
    position jsonb not null,
    listed bigint not null default 0,
    skipped bigint not null default 0,
    refused bigint not null default 0,
    expanding_until timestamptz,
    expanded_at timestamptz,
    failure text,

    -- the life
    class text not null check (class in ('interactive', 'bulk')),
    priority integer not null,
    paused boolean not null default false,
    cancelled_at timestamptz,
    -- work on its jobs that was promised and is carried out in the background
    retry jsonb,
    reclass boolean not null default false,
    finished_at timestamptz,
    -- how often it has ended: it begins anew when failed jobs are retried
    completions integer not null default 0,
    version bigint not null default 1,

    check (finished_at is null or expanded_at is not null)
);
create index batches_by_tenant on batches (tenant, batch_id desc);
create index batches_open on batches (batch_id) where finished_at is null;

-- Items that did not become jobs, and why.
create table refused_items (
    batch_id uuid not null references batches on delete cascade,
    line bigint not null,
    input text not null,
    detail text not null,
    primary key (batch_id, line)
);

-- `line` is the item's place in its source, from 1.
alter table jobs
    add column batch_id uuid references batches,
    add column line bigint,
    add check ((batch_id is null) = (line is null));
create unique index jobs_by_batch on jobs (batch_id, line) where batch_id is not null;
create unique index one_output_per_batch on jobs (batch_id, output) where batch_id is not null;
create index jobs_open_of_batch on jobs (batch_id) where batch_id is not null and finished_at is null;
create index jobs_failed_of_batch on jobs (batch_id) where batch_id is not null and state = 'failed';

-- Release is fair by work. A line is what waits for one tenant in one batch (or in none: the null uuid);
-- within a line it goes by priority and then by `place`: the time of submission, later by the job's cost,
-- so that small work goes first and large work ages. A row is not released before it is priced.
alter table outbox
    add column tenant text not null default '',
    add column batch_id uuid not null default '00000000-0000-0000-0000-000000000000',
    add column place timestamptz not null default now(),
    add column priced boolean not null default true;
update outbox set tenant = jobs.tenant from jobs where jobs.job_id = outbox.job_id;
drop index outbox_unsent;
create index outbox_lines on outbox (class, tenant, batch_id, priority desc, place, outbox_id)
where sent_at is null and priced;
create index outbox_unpriced on outbox (tenant, batch_id, priority desc, place, outbox_id) where not priced;
create index outbox_by_batch on outbox (batch_id) where batch_id <> '00000000-0000-0000-0000-000000000000';

-- The place of a job in its line: a tile-step counts like half a minute of waiting, a day at most.
create function place_in_line(since timestamptz, cost bigint) returns timestamptz
language sql stable
return since + least(greatest(cost, 0), 2880) * interval '30 seconds';

-- Start-time fair queueing: what each tenant was served of a class, in tile-steps, and how far the class
-- as a whole is. Who comes back after a while begins at the clock, not at its old account.
create table shares (
    class text not null,
    tenant text not null,
    served bigint not null,
    primary key (class, tenant)
) with (fillfactor = 50);
create table release_clock (
    class text primary key,
    served bigint not null
) with (fillfactor = 50);
