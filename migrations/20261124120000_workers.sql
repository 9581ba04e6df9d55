-- What workers say of themselves, every few seconds, whether they work or wait. Nothing is decided by it.
create table workers (
    worker_id text primary key,
    software text not null,
    device text not null,
    dtype text not null,
    model text not null,
    first_seen timestamptz not null default now(),
    last_seen timestamptz not null default now()
) with (fillfactor = 50);
