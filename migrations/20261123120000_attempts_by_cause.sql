-- Deaths are counted apart from failures: an attempt whose worker vanished while the job was on its
-- device is blamed on the job until the worker turns up alive.
alter table attempts add column blamed boolean not null default false;

-- Attempts up to this one are forgiven: the owner asked for a failed job to be tried anew.
alter table jobs add column forgiven_attempt integer not null default 0;
-- Tiles at once that a device could still bear, learnt from running out of memory.
alter table jobs add column tile_batch integer check (tile_batch > 0);

-- A repeated submission under the same key is answered with the job of the first.
create table idempotency_keys (
    tenant text not null,
    key text not null,
    request_sha256 bytea not null,
    job_id uuid not null references jobs on delete cascade,
    created_at timestamptz not null default now(),
    primary key (tenant, key)
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
