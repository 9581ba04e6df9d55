-- API keys. Only a digest of the secret is stored: it has 256 random bits, so a plain SHA-256 is as
-- good as a slow hash and costs a request nothing.
create table api_keys (
    key_id text primary key,
    tenant text not null,
    label text not null,
    secret_sha256 bytea not null,
    scopes text[] not null,
    read_prefixes text[] not null,
    write_prefixes text[] not null,
    created_at timestamptz not null default now(),
    revoked_at timestamptz
);
