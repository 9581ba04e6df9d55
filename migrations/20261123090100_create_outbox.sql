-- The outbox: one row for each job that waits for a worker, written in the transaction that makes it
-- wait and deleted in the one that ends the waiting (claim, cancel, expiry). The relay turns rows
-- into messages; `sent_at` is set on the broker's confirm, and cleared again by the sweeper when a
-- message seems to be lost.
create table outbox (
    outbox_id bigint generated always as identity primary key,
    job_id uuid not null unique references jobs on delete cascade,
    attempt integer not null,
    class text not null check (class in ('interactive', 'bulk')),
    priority integer not null,
    cost bigint not null,
    traceparent text,
    due_at timestamptz not null,
    -- a relay has it in its hands until then; after a crash another may take it
    taken_until timestamptz,
    sent_at timestamptz
);

create index outbox_unsent on outbox (class, priority desc, outbox_id) where sent_at is null;
create index outbox_sent on outbox (class, sent_at) where sent_at is not null;
