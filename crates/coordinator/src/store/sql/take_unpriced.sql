-- $1 rows at most, $2 seconds in the taker's hands, $3 priced rows a line may have and still be looked at.
with recursive lines as (
    -- Every line with unpriced rows, one look into the index for each.
    (
        select tenant, batch_id
        from outbox
        where not priced
        order by tenant, batch_id
        limit 1
    )
    union all
    select next.tenant, next.batch_id
    from lines
    cross join lateral (
        select tenant, batch_id
        from outbox
        where not priced and (tenant, batch_id) > (lines.tenant, lines.batch_id)
        order by tenant, batch_id
        limit 1
    ) as next
), short as (
    select lines.tenant, lines.batch_id
    from lines
    left join batches using (batch_id)
    cross join lateral (
        select count(*) as waiting
        from (
            select
            from outbox
            where class = coalesce(batches.class, 'bulk') and tenant = lines.tenant
                and batch_id = lines.batch_id and sent_at is null and priced
            limit $3
        ) as first
    ) as priced
    where waiting < $3
        and (
            batches.batch_id is null
            or (not paused and cancelled_at is null and (not atomic or (expanded_at is not null and failure is null)))
        )
), heads as (
    select outbox_id, row_number() over (partition by head.tenant, head.batch_id) as turn
    from short
    cross join lateral (
        select outbox_id, tenant, batch_id
        from outbox
        where tenant = short.tenant and batch_id = short.batch_id and not priced
            and due_at <= now() and (taken_until is null or taken_until < now())
        order by priority desc, place, outbox_id
        limit $1
    ) as head
), free as (
    select outbox_id
    from outbox
    where outbox_id = any (array (select outbox_id from heads order by turn limit $1))
        and not priced and (taken_until is null or taken_until < now())
    for update skip locked
), taken as (
    update outbox
    set taken_until = now() + make_interval(secs => $2)
    where outbox_id = any (array (select outbox_id from free))
    returning job_id
)
select job_id, input, output, if_exists, upscale, replaces
from taken
join jobs using (job_id)
