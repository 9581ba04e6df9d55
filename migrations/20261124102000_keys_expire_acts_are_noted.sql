-- A key may have an end; a rotated one has.
alter table api_keys add column expires_at timestamptz;

-- Who did what to keys and secrets, in the transaction that did it. The tenant's own to read.
create table audit_log (
    audit_id bigint generated always as identity primary key,
    tenant text not null,
    -- the key that was used; null: somebody with the database at hand
    key_id text,
    act text not null,
    subject text not null,
    happened_at timestamptz not null default now()
);
create index audit_log_by_tenant on audit_log (tenant, audit_id desc);
