-- What was submitted under which Idempotency-Key; a batch and a job may have the same one.
alter table batches add column idempotency_key text, add column request_sha256 bytea;
create unique index batches_by_key on batches (tenant, idempotency_key) where idempotency_key is not null;
