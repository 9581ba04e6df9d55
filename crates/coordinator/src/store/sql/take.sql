-- $1 class, $2 rows at most, $3 seconds in the taker's hands, $4 $5 $6 the allowance: jobs, tile-steps,
-- jobs that go whatever they cost; $7 tile-steps of one tenant, or null.
with recursive sent as materialized (
    -- Once, not once for each row that is next.
    select count(*) as jobs, coalesce(sum(cost), 0) as cost
    from outbox
    where class = $1 and sent_at is not null
), room as (
    -- No more rows are looked at than may go, and one that tells that there are more.
    select greatest(least($2, $4 - jobs), 0) + 1 as rows
    from sent
), lines as (
    -- Every line that holds anything, one look into the index for each.
    (
        select tenant, batch_id
        from outbox
        where class = $1 and sent_at is null and priced
        order by tenant, batch_id
        limit 1
    )
    union all
    select next.tenant, next.batch_id
    from lines
    cross join lateral (
        select tenant, batch_id
        from outbox
        where class = $1 and sent_at is null and priced
            and (tenant, batch_id) > (lines.tenant, lines.batch_id)
        order by tenant, batch_id
        limit 1
    ) as next
), open_lines as (
    select lines.tenant, lines.batch_id, coalesce(batches.priority, 0) as priority
    from lines
    left join batches using (batch_id)
    where batches.batch_id is null
        or (not paused and cancelled_at is null and (not atomic or (expanded_at is not null and failure is null)))
), heads as (
    select open_lines.tenant, outbox_id, open_lines.priority + head.priority as priority, place,
        greatest(cost, 1) as cost
    from open_lines
    cross join lateral (
        select outbox_id, priority, place, cost
        from outbox
        where class = $1 and tenant = open_lines.tenant and batch_id = open_lines.batch_id
            and sent_at is null and priced and due_at <= now()
            and (taken_until is null or taken_until < now())
        order by priority desc, place, outbox_id
        limit (select rows from room)
    ) as head
), busy as (
    -- What each tenant has out already; asked only where that is bounded.
    select tenant, sum(cost) as cost
    from (
        select tenant, cost from outbox where sent_at is not null
        union all
        select tenant, coalesce(cost, 0) from jobs where state = 'running'
    ) as released
    where $7::bigint is not null
    group by tenant
), fitting as (
    select heads.*,
        sum(heads.cost) over (partition by tenant order by priority desc, place, outbox_id) as upto
    from heads
), tagged as (
    -- The start tag of a row: what its tenant will have been served by then.
    select outbox_id, heads.tenant, heads.cost,
        greatest(shares.served, release_clock.served, 0) + upto - heads.cost as tag
    from fitting as heads
    left join busy using (tenant)
    left join shares on shares.class = $1 and shares.tenant = heads.tenant
    left join release_clock on release_clock.class = $1
    where $7::bigint is null or coalesce(busy.cost, 0) + upto <= $7
        or (coalesce(busy.cost, 0) = 0 and upto = heads.cost)
), next as (
    select outbox_id, tag, row_number() over line as jobs, sum(cost) over line as cost
    from (select outbox_id, tag, cost from tagged order by tag, outbox_id limit (select rows from room)) as first
    window line as (order by tag, outbox_id)
), allowed as (
    select outbox_id
    from next, sent
    where next.jobs <= $2 and sent.jobs + next.jobs <= $4
        and (sent.cost + next.cost <= $5::bigint or sent.jobs + next.jobs <= $6)
), free as (
    select outbox_id
    from outbox
    where outbox_id = any (array (select outbox_id from allowed))
        and sent_at is null and (taken_until is null or taken_until < now())
    for update skip locked
), taken as (
    update outbox
    set taken_until = now() + make_interval(secs => $3)
    where outbox_id = any (array (select outbox_id from free))
    returning outbox_id, job_id, attempt, cost, traceparent
), charged as (
    insert into shares (class, tenant, served)
    select $1, tenant, max(tag + tagged.cost)
    from taken
    join tagged using (outbox_id)
    group by tenant
    order by tenant
    on conflict (class, tenant) do update set served = greatest(shares.served, excluded.served)
), ticked as (
    insert into release_clock (class, served)
    select $1, max(tag)
    from taken
    join tagged using (outbox_id)
    having count(*) > 0
    on conflict (class) do update set served = greatest(release_clock.served, excluded.served)
)
select due as "due!", allowed as "allowed!", taken.outbox_id as "outbox_id?", job_id as "job_id?",
    attempt as "attempt?", taken.cost as "cost?", traceparent as "traceparent?"
from (select (select count(*) from next) as due, (select count(*) from allowed) as allowed) as counts
left join (taken join tagged using (outbox_id)) on true
order by tag, outbox_id
