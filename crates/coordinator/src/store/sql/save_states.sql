-- Saves new states, and says so: a row in job_events, a delivery for the webhook of a job that ended, and
-- a notification for whoever waits for the job.
-- Payloads have less than 8,000 bytes, so a hundred ids go in each.
with saved as (
    update jobs
    set state = new.state, lease_token = new.lease_token, lease_until = new.lease_until,
        publishing = new.publishing,
        version = version + 1,
        finished_at = case when new.ended then now() end,
        upload_id = case new.state
            when 'running' then upload_id
            when 'queued' then resume ->> 'upload_id'
        end,
        resume = case when not new.ended then resume end
    from unnest($1::uuid[], $2::text[], $3::bigint[], $4::timestamptz[], $5::bool[], $6::bool[])
        as new (job_id, state, lease_token, lease_until, publishing, ended)
    where jobs.job_id = new.job_id
    returning jobs.job_id, jobs.version, jobs.state, new.ended,
        -- a claim counts its attempt just after it was saved
        jobs.attempt + (jobs.state = 'running')::integer as attempt
), told as (
    insert into job_events (job_id, version, state, attempt)
    select job_id, version, state, attempt from saved
    returning job_id
), called as (
    -- Of the joined row only what this statement leaves alone: it shows how it was before.
    insert into webhook_deliveries (delivery_id, tenant, job_id, url, event_type, payload, due_at)
    select 'msg_' || replace(job_id::text, '-', '') || '_' || saved.version, tenant, job_id, url,
        'job.' || saved.state,
        json_build_object(
            'type', 'job.' || saved.state,
            'timestamp', now(),
            'data', json_build_object(
                'id', job_id, 'state', saved.state, 'version', saved.version,
                'attempt', saved.attempt, 'input', input, 'output', output, 'labels', labels,
                'result', result, 'error', case saved.state when 'failed' then error end,
                'created_at', created_at, 'finished_at', now()
            )
        )::text,
        now()
    from saved
    join job_webhooks using (job_id)
    join jobs using (job_id)
    where saved.ended
)
select pg_notify('upres_changes', string_agg(job_id::text, ','))
from (select job_id, (row_number() over () - 1) / 100 as part from told) as told
group by part
