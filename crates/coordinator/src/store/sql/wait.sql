-- $1 the job, $2 how many before it are counted, $3 whether what its tenant has out is of interest.
with recursive own as materialized (
    select outbox.*, coalesce(batches.priority, 0) + outbox.priority as rank,
        coalesce(batches.paused, false) as paused, batches.cancelled_at is not null as cancelled,
        coalesce(atomic and expanded_at is null, false) as listing, jobs.attempt as attempts
    from outbox
    join jobs using (job_id)
    left join batches on batches.batch_id = outbox.batch_id
    where outbox.job_id = $1
), lines as (
    -- As the relay finds them: every line of the tenant that holds anything.
    (
        select outbox.batch_id
        from outbox, own
        where outbox.class = own.class and outbox.tenant = own.tenant and outbox.sent_at is null
            and outbox.priced
        order by outbox.batch_id
        limit 1
    )
    union all
    select next.batch_id
    from lines
    cross join lateral (
        select outbox.batch_id
        from outbox, own
        where outbox.class = own.class and outbox.tenant = own.tenant and outbox.sent_at is null
            and outbox.priced and outbox.batch_id > lines.batch_id
        order by outbox.batch_id
        limit 1
    ) as next
), open_lines as (
    select lines.batch_id, own.rank - coalesce(batches.priority, 0) as rank
    from own
    cross join lines
    left join batches on batches.batch_id = lines.batch_id
    where batches.batch_id is null
        or (not batches.paused and cancelled_at is null
            and (not atomic or (expanded_at is not null and failure is null)))
), before as (
    select waiting.batch_id, waiting.cost
    from own
    cross join open_lines
    cross join lateral (
        (
            select outbox.batch_id, cost
            from outbox
            where outbox.class = own.class and outbox.tenant = own.tenant and sent_at is null and priced
                and outbox.batch_id = open_lines.batch_id and outbox.priority > open_lines.rank
                and due_at <= now()
            limit $2
        )
        union all
        (
            select outbox.batch_id, cost
            from outbox
            where outbox.class = own.class and outbox.tenant = own.tenant and sent_at is null and priced
                and outbox.batch_id = open_lines.batch_id and outbox.priority = open_lines.rank
                and (place, outbox_id) < (own.place, own.outbox_id) and due_at <= now()
            limit $2
        )
    ) as waiting
    limit $2
), ahead as (
    select count(*) as jobs, coalesce(sum(before.cost), 0)::bigint as cost,
        count(*) filter (where before.batch_id <> own.batch_id) as others
    from own
    left join before on true
    where before.batch_id is not null
)
select own.class as "class!", own.due_at as "due_at!", own.due_at <= now() as "due!",
    own.sent_at is not null as "released!", own.priced as "priced!", own.attempts as "attempt!",
    own.paused as "paused!", own.cancelled as "cancelled!", own.listing as "listing!", own.cost as "cost!",
    ahead.jobs as "ahead!", ahead.cost as "ahead_cost!", ahead.others as "ahead_of_others!",
    (
        select count(*)
        from outbox
        where class = own.class and sent_at is not null
    ) as "released_jobs!",
    case when $3 then (
        select coalesce(sum(out.cost), 0)::bigint
        from (
            select cost from outbox where tenant = own.tenant and sent_at is not null
            union all
            select coalesce(cost, 0) from jobs where tenant = own.tenant and state = 'running'
        ) as out
    ) else 0 end as "out_of_tenant!"
from own, ahead
