-- A batch may run another's sources again. What is as that one left it is noted here and not computed.
alter table batches
    add column parent uuid,
    add column unchanged bigint not null default 0;

-- `job_id` made the result, in whatever batch; retention may have taken it since.
create table unchanged_items (
    batch_id uuid not null references batches on delete cascade,
    line bigint not null,
    input text not null,
    output text not null,
    job_id uuid not null,
    primary key (batch_id, line),
    unique (batch_id, output)
);
