-- What is due is looked for tenant by tenant: the backlog of one hides nobody else's.
create index webhook_deliveries_due_by_tenant on webhook_deliveries (tenant, due_at) where state = 'pending';
drop index webhook_deliveries_due;
