-- Two jobs may name one output; only one of them may be making it visible. The other asks again and
-- then finds the object there.
create unique index one_publication_per_output on jobs (output) where publishing;

-- Looked at by every relay several times a second.
create index jobs_scheduled on jobs (not_before) where state = 'scheduled';
-- Lists by state and by label; what is neither open nor failed is nearly everything.
create index jobs_open on jobs (tenant, job_id desc) where finished_at is null;
create index jobs_failed on jobs (tenant, job_id desc) where state in ('failed', 'cancelled', 'expired');
create index jobs_by_label on jobs using gin (labels jsonb_path_ops);
