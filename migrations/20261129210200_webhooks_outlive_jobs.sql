-- A job may be forgotten before its owner has heard of its end, and what was told of it is shown for a month.
-- Locked in the order in which running coordinators lock them: the end of a foreign key would do it the other way.
lock table jobs, webhook_deliveries in access exclusive mode;
alter table webhook_deliveries drop constraint webhook_deliveries_job_id_fkey;
