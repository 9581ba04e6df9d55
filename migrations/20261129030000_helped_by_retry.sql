-- Whether a retry is about a job that failed of `type`: of those asked for by the beginning of their type or,
-- when none was named, of all that another attempt can help.
create function helped_by_retry(type text, wanted text) returns boolean
language sql immutable
return case
    when wanted is null then type not like 'input/%' and type not like 'output/%'
    else starts_with(type, wanted)
end;
