-- A job may be forgotten before its owner has heard of its end, and what was told of it is shown for a month.
alter table webhook_deliveries drop constraint webhook_deliveries_job_id_fkey;

-- What is due is looked for tenant by tenant: the backlog of one hides nobody else's.
create index webhook_deliveries_due_by_tenant on webhook_deliveries (tenant, due_at) where state = 'pending';
drop index webhook_deliveries_due;

-- How many jobs of a tenant wait that belong to no batch is asked with every submission.
create index outbox_single on outbox (tenant) where batch_id = '00000000-0000-0000-0000-000000000000';
