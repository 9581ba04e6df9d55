-- Where the owner of a job wants to hear of its end. A table of its own: most jobs have none.
create table job_webhooks (
    job_id uuid primary key references jobs on delete cascade,
    url text not null
);

-- What deliveries are signed with; two of a tenant while its receivers change over. Kept whole, not as
-- digests like keys: signing needs them.
create table webhook_secrets (
    secret_id uuid primary key,
    tenant text not null,
    secret bytea not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz
);
create index webhook_secrets_by_tenant on webhook_secrets (tenant, created_at desc);

-- What is to be told, written by the statement that makes it true. The id is made of what it tells of,
-- so that nothing can be told twice, and sorts by time.
create table webhook_deliveries (
    delivery_id text primary key,
    tenant text not null,
    job_id uuid references jobs on delete cascade,
    url text not null,
    event_type text not null,
    -- as it was then, and the same bytes in every attempt
    payload text not null,
    state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
    -- all there were; the numbers of their lines in the log
    attempts integer not null default 0,
    -- since it was enqueued or replayed: the place in the schedule
    failures integer not null default 0,
    -- while an attempt is under way: when it is believed dead
    due_at timestamptz,
    created_at timestamptz not null default now(),
    ended_at timestamptz,
    check ((state = 'pending') = (due_at is not null)),
    check ((state = 'pending') = (ended_at is null))
) with (fillfactor = 80);
create index webhook_deliveries_due on webhook_deliveries (due_at) where state = 'pending';
create index webhook_deliveries_by_tenant on webhook_deliveries (tenant, delivery_id desc);
create index webhook_deliveries_by_job on webhook_deliveries (job_id);
create index webhook_deliveries_ended on webhook_deliveries (ended_at) where ended_at is not null;

-- The log: each try, and what came of it.
create table webhook_attempts (
    delivery_id text not null references webhook_deliveries on delete cascade,
    attempt integer not null,
    started_at timestamptz not null,
    duration_ms integer not null,
    status integer,
    error text,
    primary key (delivery_id, attempt)
);
