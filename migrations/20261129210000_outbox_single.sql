-- How many jobs of a tenant wait that belong to no batch is asked with every submission.
create index outbox_single on outbox (tenant) where batch_id = '00000000-0000-0000-0000-000000000000';
