-- The end of a batch, with its report, is in the hands of one coordinator until `ending_until`; one whose
-- report could not be written waits until then for the next try.
alter table batches
    add column ending_by uuid,
    add column ending_until timestamptz,
    add column ending_tries integer not null default 0,
    -- why the report is not in its place
    add column report_failure text;
create index batches_by_report on batches (rtrim(report, '/')) where report is not null;
