-- From where another worker can go on: the upload, its parts, the next row and what the worker's encoder
-- has to remember. While a job with one waits, `upload_id` names the upload that is kept for it.
alter table jobs add column resume jsonb;
