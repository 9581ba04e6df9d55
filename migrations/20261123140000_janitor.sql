-- The janitor's two questions: "whose upload is this?" and "which jobs ended long ago?"
create index jobs_by_output on jobs using hash (output);
create index jobs_ended on jobs (finished_at) where finished_at is not null;
